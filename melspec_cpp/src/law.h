// A power law of the real part of the spectrum: everything computed from its configuration, and the work on one window.
#pragma once

#include "arena.h"
#include "cosines.h"
#include "filter_bank.h"
#include "melspec.h"

namespace melspec {

constexpr uint32_t kLawful = 0x4d454c34;

struct LawChannel {
  Cosines cosines;
  FilterBank filters;
  int most;  // the highest bin that has a weight

  bool prepare(const melspec_law_channel &channel, const melspec_law_config &config);
  void allocate(Arena &arena, const melspec_law_channel &channel, int n_mels);
};

int32_t check(const melspec_law_config &config);  // MELSPEC_OK or a code

}  // namespace melspec

struct melspec_law {
  uint32_t alive;      // kLawful until destroyed
  int32_t bad_sample;  // of the last run, or -1
  melspec_law_config config;
  melspec::LawChannel channels[MELSPEC_LAW_CHANNELS];
  int longest;             // of the channels' n_fft
  melspec::Vec *spectrum;  // of kLanes frames: [longest / 2 + 1], and zeros
  float *scaled;           // [kFrames * longest + 1] samples

  static constexpr int kFrames = 8;

  void allocate(melspec::Arena &arena, const melspec_law_config &constants);
  int32_t prepare();

  // That every channel has.
  int32_t frames(int64_t n_samples) const;
  int32_t run(const float *samples, int32_t n_samples, int32_t first_sample, float *out, int32_t n_frames);
};
