#include "config.h"

#include <stddef.h>

#include "bits.h"
#include "cold.h"

namespace melspec {
namespace {

bool at_least(double value, double low) { return finite(value) && value >= low; }

constexpr double kLeastAmin = 1e-300;   // the logarithm takes normal numbers only
constexpr double kMostRef = 1e300;

// What the integers of melspec_config may be, in its order.
struct Range {
  int32_t most;
  int16_t least, code;
};

constexpr Range kRanges[] = {
    {MELSPEC_ABI_VERSION, MELSPEC_ABI_VERSION, MELSPEC_ERROR_ABI_VERSION},
    {96000, 8000, MELSPEC_ERROR_SAMPLE_RATE},
    {4096, 256, MELSPEC_ERROR_N_FFT},
    {4096, 1, MELSPEC_ERROR_WIN_LENGTH},
    {0x7fffffff, 1, MELSPEC_ERROR_HOP_LENGTH},
    {MELSPEC_WINDOW_HANN, MELSPEC_WINDOW_HANN, MELSPEC_ERROR_WINDOW},
    {1, 0, MELSPEC_ERROR_PADDING},  // center
    {MELSPEC_PAD_REFLECT, MELSPEC_PAD_CONSTANT, MELSPEC_ERROR_PADDING},
    {2, 1, MELSPEC_ERROR_POWER},
    {256, 1, MELSPEC_ERROR_N_MELS},
    {MELSPEC_SCALE_HTK, MELSPEC_SCALE_SLANEY, MELSPEC_ERROR_MEL_SCALE},
    {MELSPEC_NORM_SLANEY, MELSPEC_NORM_NONE, MELSPEC_ERROR_MEL_NORM},
    {MELSPEC_REF_MAX, MELSPEC_REF_FIXED, MELSPEC_ERROR_REF},
    {1, 0, MELSPEC_ERROR_TOP_DB},  // has_top_db
};
static_assert(sizeof(melspec_config) == offsetof(melspec_config, abi_version) + 4 * sizeof kRanges / sizeof *kRanges,
              "a range for every integer");

}  // namespace

MELSPEC_COLD int32_t check(const melspec_config &c) {
  const int32_t *field = &c.abi_version;
#pragma clang loop unroll(disable)
  for (const Range &range : kRanges) {
    if (*field < range.least || *field > range.most) return range.code;
    ++field;
  }
  if ((c.n_fft & (c.n_fft - 1)) != 0) return MELSPEC_ERROR_N_FFT;
  if (c.win_length > c.n_fft) return MELSPEC_ERROR_WIN_LENGTH;
  if (!at_least(c.f_min, 0) || !finite(c.f_max) || !(c.f_min < c.f_max) || c.f_max > c.sample_rate / 2.0)
    return MELSPEC_ERROR_FREQUENCIES;
  double amin = c.power == 1 ? c.amin * c.amin : c.amin;
  if (!(c.amin > 0) || !at_least(amin, kLeastAmin) || amin > kMostRef) return MELSPEC_ERROR_AMIN;
  if (c.ref_mode == MELSPEC_REF_FIXED) {
    double ref = c.power == 1 ? c.ref * c.ref : c.ref;
    if (!(c.ref > 0) || !finite(ref) || ref > kMostRef) return MELSPEC_ERROR_REF;
  }
  if (c.has_top_db && !at_least(c.top_db, 0)) return MELSPEC_ERROR_TOP_DB;
  if (!finite(c.db_offset) || !finite(c.db_scale) || c.db_scale == 0) return MELSPEC_ERROR_SCALING;
  return MELSPEC_OK;
}

MELSPEC_COLD const char *message(int32_t code) {
  switch (code) {
    case MELSPEC_OK: return "no error";
    case MELSPEC_ERROR_POINTER: return "a pointer is null, misaligned or outside the memory, or buffers overlap";
    case MELSPEC_ERROR_ABI_VERSION: return "config.abi_version is not this module's";
    case MELSPEC_ERROR_SAMPLE_RATE: return "sample_rate must lie between 8000 and 96000 Hz";
    case MELSPEC_ERROR_N_FFT: return "n_fft must be a power of two from 256 to 4096";
    case MELSPEC_ERROR_WIN_LENGTH: return "win_length must lie between 1 and n_fft";
    case MELSPEC_ERROR_HOP_LENGTH: return "hop_length must be at least 1";
    case MELSPEC_ERROR_WINDOW: return "window must be 0 (periodic Hann)";
    case MELSPEC_ERROR_PADDING: return "center must be 0 or 1, and pad_mode 0 (constant) or 1 (reflect)";
    case MELSPEC_ERROR_POWER: return "power must be 1 or 2";
    case MELSPEC_ERROR_N_MELS: return "n_mels must lie between 1 and 256";
    case MELSPEC_ERROR_FREQUENCIES:
      return "0 <= f_min < f_max <= sample_rate / 2 must hold, with room for n_mels bands";
    case MELSPEC_ERROR_MEL_SCALE: return "mel_scale must be 0 (slaney) or 1 (htk)";
    case MELSPEC_ERROR_MEL_NORM: return "mel_norm must be 0 (none) or 1 (slaney)";
    case MELSPEC_ERROR_AMIN: return "amin must be positive, and its power between 1e-300 and 1e300";
    case MELSPEC_ERROR_REF: return "ref_mode must be 0 (fixed) or 1 (max), and ref positive, its power at most 1e300";
    case MELSPEC_ERROR_TOP_DB: return "has_top_db must be 0 or 1, and top_db finite and not negative";
    case MELSPEC_ERROR_SCALING: return "db_offset and db_scale must be finite, and db_scale not zero";
    case MELSPEC_ERROR_MEMORY: return "out of memory";
    case MELSPEC_ERROR_PLAN: return "this is not a living plan";
    case MELSPEC_ERROR_N_SAMPLES: return "n_samples is negative or gives not one frame";
    case MELSPEC_ERROR_TOO_LONG: return "the output would hold more than 2^31 - 1 bytes; pass the samples in parts";
    case MELSPEC_ERROR_CAPACITY: return "the output buffer is too small";
    case MELSPEC_ERROR_OUTPUT: return "output must be 0 (power), 1 (decibels) or 2 (scaled)";
    case MELSPEC_ERROR_NOT_FINITE: return "a sample is NaN or infinite";
    case MELSPEC_ERROR_STREAM: return "this is not a living stream";
    case MELSPEC_ERROR_STEP: return "step_samples must be at least 1";
    case MELSPEC_ERROR_IN_USE: return "the plan still has streams; destroy them first";
    case MELSPEC_ERROR_CHANNELS: return "n_channels must lie between 1 and 4, and channels behind the last be zero";
    case MELSPEC_ERROR_EXPONENT: return "exponent must lie above 0 and be at most 1";
    case MELSPEC_ERROR_PEAK:
      return "peak_epsilon must be positive, peak_scale not 0, and peak_scale * (1 + |peak_offset|) from 1e-12 to 1e12";
    case MELSPEC_ERROR_LAW: return "this is not a living law";
    case MELSPEC_ERROR_FIRST_SAMPLE: return "first_sample must lie between 0 and n_samples";
    default: return "unknown code";
  }
}

}  // namespace melspec
