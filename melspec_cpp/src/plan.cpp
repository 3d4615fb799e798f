#include "plan.h"

#include "decibels.h"
#include "memory.h"
#include "window.h"

using melspec::both;
using melspec::decibels;
using melspec::Pair;

namespace {

Pair larger(Pair a, Pair b) { return a > b ? a : b; }
double larger(double a, double b) { return a > b ? a : b; }

double decibels_of(double power) { return decibels(both(power))[0]; }

// Index into 0 ... n-1 of what lies at i in the signal mirrored about its first and last sample, again and again.
int64_t reflected(int64_t i, int64_t n) {
  if (n == 1) return 0;
  int64_t period = 2 * (n - 1);
  i %= period;
  if (i < 0) i += period;
  return i < n ? i : period - i;
}

// Index of the first NaN or infinity, or -1.
int32_t first_not_finite(const float *samples, int32_t n) {
  typedef uint32_t Bits __attribute__((may_alias));
  const Bits *bits = reinterpret_cast<const Bits *>(samples);
  for (int32_t start = 0; start < n; start += 4096) {
    int32_t end = n - start < 4096 ? n : start + 4096;
    uint32_t found = 0;
    for (int32_t i = start; i < end; ++i) found |= (bits[i] & 0x7f800000u) == 0x7f800000u;
    if (!found) continue;
    for (int32_t i = start; i < end; ++i)
      if ((bits[i] & 0x7f800000u) == 0x7f800000u) return i;
  }
  return -1;
}

// Two neighbouring frames of one band; the second is left out at the end of an odd number.
void store(float *out, Pair value, bool last) {
  out[0] = static_cast<float>(value[0]);
  if (!last) out[1] = static_cast<float>(value[1]);
}

}  // namespace

void melspec_plan::allocate(melspec::Arena &arena, const melspec_config &constants) {
  config = constants;
  half_window = arena.take<double>(config.n_fft);
  fft.allocate(arena, config.n_fft);
  filters.allocate(arena, config.n_mels, config.n_fft);
  spectrum = arena.take<Pair>(filters.bins);
  values = arena.take<Pair>(config.n_mels);
  for (float *&lane : edge) lane = arena.take<float>(config.n_fft);
}

int32_t melspec_plan::prepare() {
  alive = melspec::kAlive;
  bad_sample = -1;
  melspec::hann_window(config.win_length, config.n_fft, half_window);
  for (int i = 0; i < config.n_fft; ++i) half_window[i] *= 0.5;
  fft.prepare();
  return filters.prepare(config) ? MELSPEC_OK : MELSPEC_ERROR_FREQUENCIES;
}

int64_t melspec_plan::frames(int64_t n_samples) const {
  int64_t padded = n_samples + (config.center ? config.n_fft : 0);
  return n_samples < 1 || padded < config.n_fft ? 0 : 1 + (padded - config.n_fft) / config.hop_length;
}

// The samples of a frame: where they lie, or a padded copy at the edges of a centred signal.
const float *melspec_plan::frame(int lane, int64_t index, const float *samples, int64_t n_samples) const {
  int64_t half = config.n_fft / 2, hop = config.hop_length;
  int64_t start = index * hop - (config.center ? half : 0);
  if (start >= 0 && start + config.n_fft <= n_samples) return samples + start;
  // librosa pads head and tail apart where no frame touches both; its mirrored tail then knows only the samples from
  // the first frame that needs padding on, which shows where the hop is longer than half a frame.
  int64_t head = (half + hop - 1) / hop;
  int64_t room = n_samples - half;
  int64_t tail = room >= 0 ? room / hop + 1 : 0;
  int64_t origin = tail > head && index >= tail ? tail * hop - half : 0;
  for (int i = 0; i < config.n_fft; ++i) {
    int64_t at = start + i;
    if (at >= 0 && at < n_samples)
      edge[lane][i] = samples[at];
    else if (config.pad_mode == MELSPEC_PAD_REFLECT)
      edge[lane][i] = samples[origin + reflected(at - origin, n_samples - origin)];
    else
      edge[lane][i] = 0.0f;
  }
  return edge[lane];
}

// Mel values of frames index and index + 1; at the last frame of an odd number it is computed twice.
void melspec_plan::mel(int64_t index, bool last, const float *samples, int64_t n_samples) const {
  const float *first = frame(0, index, samples, n_samples);
  const float *second = last ? first : frame(1, index + 1, samples, n_samples);
  fft.power_spectrum(first, second, half_window, spectrum);
  if (config.power == 1)
    for (int i = 0; i < filters.bins; ++i) spectrum[i] = __builtin_elementwise_sqrt(spectrum[i]);
  filters.apply(spectrum, values);
}

// use(index into the output, values of two frames, whether the second is to be left out) for every band and frame.
template <typename Use>
void melspec_plan::each_value(const float *samples, int64_t n_samples, int32_t n_frames, Use use) const {
  for (int32_t t = 0; t < n_frames; t += 2) {
    bool last = t + 1 == n_frames;
    mel(t, last, samples, n_samples);
    for (int m = 0; m < config.n_mels; ++m) use(static_cast<int64_t>(m) * n_frames + t, values[m], last);
  }
}

// Decibels are of powers: magnitudes, and the constants that are given as such, are squared first.
template <typename T>
T melspec_plan::as_power(T value) const {
  return config.power == 1 ? value * value : value;
}

int32_t melspec_plan::run(melspec_output output, const float *samples, int32_t n_samples, float *out,
                          int32_t n_frames) {
  bad_sample = first_not_finite(samples, n_samples);
  if (bad_sample >= 0) return MELSPEC_ERROR_NOT_FINITE;
  if (output == MELSPEC_OUTPUT_POWER) {
    each_value(samples, n_samples, n_frames, [&](int64_t at, Pair value, bool last) { store(out + at, value, last); });
    return n_frames;
  }
  const bool scaled = output == MELSPEC_OUTPUT_SCALED;
  const double offset = scaled ? config.db_offset : 0.0, scale = scaled ? config.db_scale : 1.0;
  if (config.ref_mode == MELSPEC_REF_MAX || config.has_top_db)
    return run_relative(offset, scale, samples, n_samples, out, n_frames);
  const double amin = as_power(config.amin), reference = decibels_of(larger(amin, as_power(config.ref)));
  each_value(samples, n_samples, n_frames, [&](int64_t at, Pair value, bool last) {
    Pair level = decibels(larger(both(amin), as_power(value)));
    store(out + at, (level - both(reference) + both(offset)) * both(scale), last);
  });
  return n_frames;
}

// Decibels that depend on the array's maximum: none is final before the last frame, so they wait in float64.
int32_t melspec_plan::run_relative(double offset, double scale, const float *samples, int32_t n_samples, float *out,
                                   int32_t n_frames) const {
  const int64_t count = static_cast<int64_t>(config.n_mels) * n_frames;
  double *waiting = static_cast<double *>(melspec::allocate(count * 8));
  if (!waiting) return MELSPEC_ERROR_MEMORY;
  const double amin = as_power(config.amin);
  Pair largest = both(amin);
  each_value(samples, n_samples, n_frames, [&](int64_t at, Pair value, bool last) {
    Pair power = larger(both(amin), as_power(value));
    largest = larger(largest, power);
    Pair level = decibels(power);
    waiting[at] = level[0];
    if (!last) waiting[at + 1] = level[1];
  });
  const double most = larger(largest[0], largest[1]);
  const double ref = config.ref_mode == MELSPEC_REF_MAX ? most : as_power(config.ref);
  const double reference = decibels_of(larger(amin, ref));
  const double least = config.has_top_db ? decibels_of(most) - reference - config.top_db : -1e308;
  for (int64_t i = 0; i < count; ++i)
    out[i] = static_cast<float>((larger(waiting[i] - reference, least) + offset) * scale);
  melspec::release(waiting);
  return n_frames;
}
