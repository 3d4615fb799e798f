// Step by step what librosa.filters.mel computes, its rounding included: ramps in float64, stored as float32, then
// scaled in float64 and stored as float32 again. Slaney's scale is that of the Auditory Toolbox (Slaney 1998), the
// other that of HTK (O'Shaughnessy 1987).
#include "filter_bank.h"

#include "cold.h"
#include "elementary.h"

namespace melspec {
namespace {

constexpr double kHzPerMel = 200.0 / 3;  // below the break, Slaney's scale is linear
constexpr double kBreakHz = 1000.0;
constexpr double kBreakMel = kBreakHz / kHzPerMel;

double log_step() { return log(6.4) / 27.0; }

MELSPEC_COLD double hz_to_mel(double hz, bool htk) {
  if (htk) return 2595.0 * log10(1.0 + hz / 700.0);
  return hz >= kBreakHz ? kBreakMel + log(hz / kBreakHz) / log_step() : hz / kHzPerMel;
}

MELSPEC_COLD double mel_to_hz(double mel, bool htk) {
  if (htk) return 700.0 * (exp10(mel / 2595.0) - 1.0);
  return mel >= kBreakMel ? kBreakHz * exp(log_step() * (mel - kBreakMel)) : kHzPerMel * mel;
}

}  // namespace

MELSPEC_COLD void FilterBank::allocate(Arena &arena, int mels, int n_fft) {
  n_mels = mels;
  bins = n_fft / 2 + 1;
  first = arena.take<int32_t>(n_mels);
  count = arena.take<int32_t>(n_mels);
  weights = arena.take<double>(2 * bins + (kStep - 1) * n_mels);  // a bin lies under at most two triangles
  edges = arena.take<double>(n_mels + 2);
}

MELSPEC_COLD bool FilterBank::prepare(const melspec_config &config) {
  bool htk = config.mel_scale == MELSPEC_SCALE_HTK;
  double low = hz_to_mel(config.f_min, htk), high = hz_to_mel(config.f_max, htk);
  double step = (high - low) / (n_mels + 1);
  for (int i = 0; i < n_mels + 2; ++i) {
    edges[i] = mel_to_hz(i == n_mels + 1 ? high : i * step + low, htk);
    if (i > 0 && !(edges[i] > edges[i - 1])) return false;
  }
  double bin_hz = 1.0 / (config.n_fft * (1.0 / config.sample_rate));
  double *next = weights;
  for (int m = 0; m < n_mels; ++m) {
    double area = config.mel_norm == MELSPEC_NORM_SLANEY ? 2.0 / (edges[m + 2] - edges[m]) : 1.0;
    first[m] = count[m] = 0;
    for (int bin = 0; bin < bins; ++bin) {
      double hz = bin * bin_hz;
      double rising = -(edges[m] - hz) / (edges[m + 1] - edges[m]);
      double falling = (edges[m + 2] - hz) / (edges[m + 2] - edges[m + 1]);
      float ramp = static_cast<float>(rising < falling ? rising : falling);
      if (!(ramp > 0.0f)) continue;
      if (count[m] == 0) first[m] = bin;
      *next++ = static_cast<float>(ramp * area);
      ++count[m];
    }
    for (; count[m] % kStep != 0; ++count[m]) *next++ = 0.0;
  }
  return true;
}

// Four partial sums, over every fourth bin, are added in an order that is the same in every build.
void FilterBank::apply(double *const *spectrum, Vec *values) const {
  constexpr int kParts = kStep / kLanes;
  const double *w = weights;
  for (int m = 0; m < n_mels; ++m) {
    const double *x[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) x[lane] = spectrum[lane] + first[m];
    Vec sums[kLanes][kParts] = {};
    for (const double *end = w + count[m]; w < end; w += kStep)
      for (int lane = 0; lane < kLanes; ++lane, x[lane - 1] += kStep)
        for (int part = 0; part < kParts; ++part)
          sums[lane][part] += load(w + part * kLanes) * load(x[lane] + part * kLanes);
    values[m] = add_up(sums);
  }
}

MELSPEC_COLD void FilterBank::copy(float *out) const {
  const double *w = weights;
  for (int m = 0; m < n_mels; ++m) {
    for (int bin = 0; bin < bins; ++bin) *out++ = 0.0f;
    for (int bin = first[m]; bin < first[m] + count[m]; ++bin, ++w)
      if (bin < bins) out[bin - bins] = static_cast<float>(*w);
  }
}

}  // namespace melspec
