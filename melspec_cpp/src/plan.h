// A configuration with everything computed from it, and the work on one array of samples.
#pragma once

#include "arena.h"
#include "fft.h"
#include "filter_bank.h"
#include "melspec.h"

namespace melspec {

constexpr uint32_t kAlive = 0x4d454c31;

}  // namespace melspec

struct melspec_plan {
  uint32_t alive;      // kAlive until destroyed
  int32_t bad_sample;  // of the last run, or -1
  melspec_config config;
  double *half_window;  // [n_fft] the analysis window times 1/2 (exactly), which the real FFT wants
  melspec::Fft fft;
  melspec::FilterBank filters;
  melspec::Pair *spectrum;  // [n_fft / 2 + 1]
  melspec::Pair *values;    // [n_mels]
  float *edge[2];           // [n_fft] a padded frame per lane

  void allocate(melspec::Arena &arena, const melspec_config &constants);
  int32_t prepare();

  int64_t frames(int64_t n_samples) const;
  int32_t run(melspec_output output, const float *samples, int32_t n_samples, float *out, int32_t n_frames);

 private:
  const float *frame(int lane, int64_t index, const float *samples, int64_t n_samples) const;
  void mel(int64_t index, bool last, const float *samples, int64_t n_samples) const;
  template <typename Use>
  void each_value(const float *samples, int64_t n_samples, int32_t n_frames, Use use) const;
  template <typename T>
  T as_power(T value) const;
  int32_t run_relative(double offset, double scale, const float *samples, int32_t n_samples, float *out,
                       int32_t n_frames) const;
};
