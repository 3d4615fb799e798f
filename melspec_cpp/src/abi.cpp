// The exported functions: every argument is checked here, nothing is checked behind.
#include "config.h"
#include "memory.h"
#include "plan.h"

using melspec::accessible;

namespace {

static_assert(sizeof(melspec_config) == 112, "the layout is part of the ABI");

bool living(const melspec_plan *plan) {
  return accessible(plan, sizeof(melspec_plan), alignof(melspec_plan)) && plan->alive == melspec::kAlive;
}

bool overlap(const void *a, int64_t a_bytes, const void *b, int64_t b_bytes) {
  const char *x = static_cast<const char *>(a), *y = static_cast<const char *>(b);
  return x < y + b_bytes && y < x + a_bytes;
}

constexpr int64_t kMost = 0x7fffffff;

}  // namespace

extern "C" {

int32_t melspec_abi_version(void) { return MELSPEC_ABI_VERSION; }

int32_t melspec_config_size(void) { return sizeof(melspec_config); }

const char *melspec_message(int32_t code) { return melspec::message(code); }

void *melspec_alloc(int32_t bytes) { return bytes < 0 ? nullptr : melspec::allocate(bytes); }

void melspec_free(void *memory) { melspec::release(memory); }

int32_t melspec_create(const melspec_config *config, melspec_plan **plan) {
  if (!accessible(plan, sizeof *plan, alignof(melspec_plan *))) return MELSPEC_ERROR_POINTER;
  *plan = nullptr;
  if (!accessible(config, sizeof *config, alignof(melspec_config))) return MELSPEC_ERROR_POINTER;
  int32_t code = melspec::check(*config);
  if (code != MELSPEC_OK) return code;

  melspec_plan sizes;
  melspec::Arena measure{nullptr};
  measure.take<melspec_plan>(1);
  sizes.allocate(measure, *config);

  char *memory = static_cast<char *>(melspec::allocate(measure.used));
  if (!memory) return MELSPEC_ERROR_MEMORY;
  melspec::Arena arena{memory};
  melspec_plan *made = arena.take<melspec_plan>(1);
  made->allocate(arena, *config);
  code = made->prepare();
  if (code == MELSPEC_OK)
    *plan = made;
  else
    melspec::release(memory);
  return code;
}

int32_t melspec_destroy(melspec_plan *plan) {
  if (!plan) return MELSPEC_OK;
  if (!living(plan)) return MELSPEC_ERROR_PLAN;
  plan->alive = 0;
  melspec::release(plan);
  return MELSPEC_OK;
}

int32_t melspec_frames(const melspec_plan *plan, int32_t n_samples) {
  if (!living(plan)) return MELSPEC_ERROR_PLAN;
  if (n_samples < 0) return MELSPEC_ERROR_N_SAMPLES;
  int64_t frames = plan->frames(n_samples);
  return frames > kMost ? static_cast<int32_t>(MELSPEC_ERROR_TOO_LONG) : static_cast<int32_t>(frames);
}

int32_t melspec_bytes(const melspec_plan *plan, int32_t n_samples) {
  int32_t frames = melspec_frames(plan, n_samples);
  if (frames < 0) return frames;
  int64_t bytes = static_cast<int64_t>(frames) * plan->config.n_mels * 4;
  return bytes > kMost ? static_cast<int32_t>(MELSPEC_ERROR_TOO_LONG) : static_cast<int32_t>(bytes);
}

int32_t melspec_run(melspec_plan *plan, int32_t output, const float *samples, int32_t n_samples, float *out,
                    int32_t capacity) {
  int32_t bytes = melspec_bytes(plan, n_samples);
  if (bytes < 0) return bytes;
  if (bytes == 0) return MELSPEC_ERROR_N_SAMPLES;
  if (output < MELSPEC_OUTPUT_POWER || output > MELSPEC_OUTPUT_SCALED) return MELSPEC_ERROR_OUTPUT;
  if (capacity < bytes / 4) return MELSPEC_ERROR_CAPACITY;
  int64_t sample_bytes = static_cast<int64_t>(n_samples) * 4;
  if (!accessible(samples, sample_bytes, 4) || !accessible(out, bytes, 4) ||
      overlap(samples, sample_bytes, out, bytes) || overlap(plan, sizeof *plan, out, bytes))
    return MELSPEC_ERROR_POINTER;
  return plan->run(static_cast<melspec_output>(output), samples, n_samples, out, bytes / 4 / plan->config.n_mels);
}

int32_t melspec_bad_sample(const melspec_plan *plan) {
  return living(plan) ? plan->bad_sample : static_cast<int32_t>(MELSPEC_ERROR_PLAN);
}

int32_t melspec_filters(const melspec_plan *plan, float *out, int32_t capacity) {
  if (!living(plan)) return MELSPEC_ERROR_PLAN;
  int32_t count = plan->filters.n_mels * plan->filters.bins;
  if (capacity < count) return MELSPEC_ERROR_CAPACITY;
  if (!accessible(out, static_cast<int64_t>(count) * 4, 4)) return MELSPEC_ERROR_POINTER;
  plan->filters.copy(out);
  return count;
}

int32_t melspec_window(const melspec_plan *plan, double *out, int32_t capacity) {
  if (!living(plan)) return MELSPEC_ERROR_PLAN;
  int32_t count = plan->config.n_fft;
  if (capacity < count) return MELSPEC_ERROR_CAPACITY;
  if (!accessible(out, static_cast<int64_t>(count) * 8, 8)) return MELSPEC_ERROR_POINTER;
  for (int32_t i = 0; i < count; ++i) out[i] = 2.0 * plan->half_window[i];
  return count;
}

}  // extern "C"
