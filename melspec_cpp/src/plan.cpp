#include "plan.h"

#include "cold.h"
#include "finite.h"
#include "memory.h"

using melspec::kLanes;
using melspec::Vec;

namespace {

// Index into 0 ... n-1 of what lies at i in the signal mirrored about its first and last sample, again and again.
MELSPEC_COLD int64_t reflected(int64_t i, int64_t n) {
  if (n == 1) return 0;
  int64_t period = 2 * (n - 1);
  i %= period;
  if (i < 0) i += period;
  return i < n ? i : period - i;
}

}  // namespace

MELSPEC_COLD void melspec_plan::allocate(melspec::Arena &arena, const melspec_config &constants) {
  config = constants;
  fft.allocate(arena, config.n_fft);
  filters.allocate(arena, config.n_mels, config.n_fft);
  for (double *&lane : spectrum) lane = arena.take<double>(filters.bins + melspec::kStep - 1);
  values = arena.take<Vec>(config.n_mels);
  for (float *&lane : edge) lane = arena.take<float>(config.n_fft);
}

MELSPEC_COLD int32_t melspec_plan::prepare() {
  alive = melspec::kAlive;
  streams = 0;
  bad_sample = -1;
  fft.prepare(config.win_length);
  for (double *lane : spectrum)
    for (int i = 0; i < filters.bins + melspec::kStep - 1; ++i) lane[i] = 0.0;
  return filters.prepare(config) ? MELSPEC_OK : MELSPEC_ERROR_FREQUENCIES;
}

int64_t melspec_plan::frames(int64_t n_samples) const {
  int64_t padded = n_samples + (config.center ? config.n_fft : 0);
  return n_samples < 1 || padded < config.n_fft ? 0 : 1 + (padded - config.n_fft) / config.hop_length;
}

int64_t melspec_plan::first_inside() const {
  return config.center ? 1 + static_cast<int64_t>(config.n_fft / 2 - 1) / config.hop_length : 0;
}

int64_t melspec_plan::end_inside(int64_t n_samples) const {
  const int64_t room = n_samples - (config.center ? config.n_fft / 2 : config.n_fft);
  return room >= 0 ? room / config.hop_length + 1 : 0;
}

// The samples of a frame: where they lie, or a padded copy at the edges of a centred signal.
MELSPEC_COLD const float *melspec_plan::frame(int lane, int64_t index, const float *samples, int64_t n_samples) const {
  const int64_t half = config.n_fft / 2, hop = config.hop_length;
  const int64_t start = index * hop - (config.center ? half : 0);
  if (start >= 0 && start + config.n_fft <= n_samples) return samples + start;
  // librosa pads head and tail apart where no frame touches both; its mirrored tail then knows only the samples from
  // the first frame that needs padding on, which shows where the hop is longer than half a frame.
  const int64_t tail = end_inside(n_samples);
  const int64_t origin = tail > first_inside() && index >= tail ? tail * hop - half : 0;
  const int64_t before = start < 0 ? -start : 0, room = n_samples - start;
  const int64_t behind = room < config.n_fft ? room : config.n_fft;  // of the frame, the first that is padding
  melspec::copy(edge[lane] + before, samples + start + before, 4 * (behind - before));
  for (int64_t i = 0; i < config.n_fft; ++i)
    if (i < before || i >= behind)
      edge[lane][i] = config.pad_mode == MELSPEC_PAD_REFLECT
                          ? samples[origin + reflected(start + i - origin, n_samples - origin)]
                          : 0.0f;
  return edge[lane];
}

void melspec_plan::columns(const melspec::Levels &levels, const float *samples, int64_t n_samples, int64_t first,
                           int64_t end, void *to, ptrdiff_t stride) const {
  const float *frames[kLanes];
  for (int64_t t = first; t < end; t += kLanes) {
    const int together = end - t < kLanes ? static_cast<int>(end - t) : kLanes;
    for (int lane = 0; lane < together; ++lane) frames[lane] = frame(lane, t + lane, samples, n_samples);
    fft.power_spectra(frames, together, spectrum);
    if (config.power == 1)
      for (int lane = 0; lane < together; ++lane)
        for (int i = 0; i < filters.bins; ++i) spectrum[lane][i] = __builtin_sqrt(spectrum[lane][i]);
    filters.apply(spectrum, values);
    const int n_mels = config.n_mels;
    levels.apply(values, n_mels);
    const Vec *level = values;
    ptrdiff_t at = static_cast<ptrdiff_t>(t - first);
#pragma clang loop unroll(disable)
    for (int band = 0; band < n_mels; ++band, at += stride)
      if (levels.relative)
        melspec::store_some(static_cast<double *>(to) + at, *level++, together);
      else
        melspec::store_some(static_cast<float *>(to) + at, levels.finish(*level++), together);
  }
}

int32_t melspec_plan::run(melspec_output output, const float *samples, int32_t n_samples, float *out,
                          int32_t n_frames) {
  bad_sample = melspec::first_not_finite(samples, n_samples);
  if (bad_sample >= 0) return MELSPEC_ERROR_NOT_FINITE;
  const melspec::Levels levels(config, output);
  if (!levels.relative) {
    columns(levels, samples, n_samples, 0, n_frames, out, n_frames);
    return n_frames;
  }
  // None of them is final before the last frame, so they wait in float64.
  const int64_t count = static_cast<int64_t>(config.n_mels) * n_frames;
  double *waiting = static_cast<double *>(melspec::allocate(count * 8));
  if (!waiting) return MELSPEC_ERROR_MEMORY;
  columns(levels, samples, n_samples, 0, n_frames, waiting, n_frames);
  levels.finish(waiting, count, out);
  melspec::release(waiting);
  return n_frames;
}
