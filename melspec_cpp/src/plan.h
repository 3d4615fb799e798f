// A configuration with everything computed from it, and the work on one array of samples.
#pragma once

#include <stddef.h>

#include "arena.h"
#include "fft.h"
#include "filter_bank.h"
#include "levels.h"
#include "melspec.h"

namespace melspec {

constexpr uint32_t kAlive = 0x4d454c31;

}  // namespace melspec

struct melspec_plan {
  uint32_t alive;      // kAlive until destroyed
  int32_t streams;     // that use it
  int32_t bad_sample;  // of the last run, or -1
  melspec_config config;
  melspec::Fft fft;
  melspec::FilterBank filters;
  double *spectrum[melspec::kLanes];  // of one frame each: [n_fft / 2 + 1], and zeros
  melspec::Vec *values;               // [n_mels] of these frames
  float *edge[melspec::kLanes];       // a padded frame each: [n_fft]

  void allocate(melspec::Arena &arena, const melspec_config &constants);
  int32_t prepare();

  int64_t frames(int64_t n_samples) const;
  int32_t run(melspec_output output, const float *samples, int32_t n_samples, float *out, int32_t n_frames);

  // Frames first ... end - 1 of the samples as columns: a row per band, rows `stride` apart; floats, or doubles where
  // levels are relative.
  void columns(const melspec::Levels &levels, const float *samples, int64_t n_samples, int64_t first, int64_t end,
               void *to, ptrdiff_t stride) const;
  // The frames that need no padding.
  int64_t first_inside() const;
  int64_t end_inside(int64_t n_samples) const;

 private:
  const float *frame(int lane, int64_t index, const float *samples, int64_t n_samples) const;
};
