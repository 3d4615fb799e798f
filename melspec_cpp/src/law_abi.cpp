// The exported functions of the power law: every argument is checked here, nothing is checked behind.
#include "cold.h"
#include "law.h"
#include "make.h"
#include "memory.h"

using melspec::accessible;
using melspec::overlap;

namespace {

static_assert(sizeof(melspec_law_config) == 168 && sizeof(melspec_law_channel) == 32, "the layout is part of the ABI");

bool living(const melspec_law *law) {
  return accessible(law, sizeof(melspec_law), alignof(melspec_law)) && law->alive == melspec::kLawful;
}

}  // namespace

extern "C" {

int32_t melspec_law_config_size(void) { return sizeof(melspec_law_config); }

MELSPEC_COLD int32_t melspec_law_create(const melspec_law_config *config, melspec_law **law) {
  return melspec::make(config, law);
}

MELSPEC_COLD int32_t melspec_law_destroy(melspec_law *law) {
  if (!law) return MELSPEC_OK;
  if (!living(law)) return MELSPEC_ERROR_LAW;
  law->alive = 0;
  melspec::release(law);
  return MELSPEC_OK;
}

MELSPEC_COLD int32_t melspec_law_frames(const melspec_law *law, int32_t n_samples) {
  if (!living(law)) return MELSPEC_ERROR_LAW;
  return n_samples < 0 ? static_cast<int32_t>(MELSPEC_ERROR_N_SAMPLES) : law->frames(n_samples);
}

MELSPEC_COLD int32_t melspec_law_bytes(const melspec_law *law, int32_t n_samples) {
  const int32_t frames = melspec_law_frames(law, n_samples);
  if (frames < 0) return frames;
  const int64_t bytes = static_cast<int64_t>(frames) * law->config.n_mels * law->config.n_channels * 4;
  return bytes > 0x7fffffff ? static_cast<int32_t>(MELSPEC_ERROR_TOO_LONG) : static_cast<int32_t>(bytes);
}

MELSPEC_COLD int32_t melspec_law_run(melspec_law *law, const float *samples, int32_t n_samples, int32_t first_sample,
                                     float *out, int32_t capacity) {
  if (!living(law)) return MELSPEC_ERROR_LAW;
  if (n_samples < 0) return MELSPEC_ERROR_N_SAMPLES;
  if (first_sample < 0 || first_sample > n_samples) return MELSPEC_ERROR_FIRST_SAMPLE;
  const int32_t bytes = melspec_law_bytes(law, n_samples - first_sample);
  if (bytes < 0) return bytes;
  if (bytes == 0) return MELSPEC_ERROR_N_SAMPLES;
  if (capacity < bytes / 4) return MELSPEC_ERROR_CAPACITY;
  const int64_t sample_bytes = static_cast<int64_t>(n_samples) * 4;
  if (!accessible(samples, sample_bytes, 4) || !accessible(out, bytes, 4) ||
      overlap(samples, sample_bytes, out, bytes) || overlap(law, sizeof *law, out, bytes))
    return MELSPEC_ERROR_POINTER;
  return law->run(samples, n_samples, first_sample, out, law->frames(n_samples - first_sample));
}

int32_t melspec_law_bad_sample(const melspec_law *law) {
  return living(law) ? law->bad_sample : static_cast<int32_t>(MELSPEC_ERROR_LAW);
}

MELSPEC_COLD int32_t melspec_law_filters(const melspec_law *law, int32_t channel, float *out, int32_t capacity) {
  if (!living(law)) return MELSPEC_ERROR_LAW;
  if (channel < 0 || channel >= law->config.n_channels) return MELSPEC_ERROR_CHANNELS;
  const melspec::FilterBank &filters = law->channels[channel].filters;
  const int32_t count = filters.n_mels * filters.bins;
  if (capacity < count) return MELSPEC_ERROR_CAPACITY;
  if (!accessible(out, static_cast<int64_t>(count) * 4, 4)) return MELSPEC_ERROR_POINTER;
  filters.copy(out);
  return count;
}

}  // extern "C"
