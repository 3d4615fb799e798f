// The exported functions: every argument is checked here, nothing is checked behind.
#include "config.h"
#include "cold.h"
#include "make.h"
#include "memory.h"
#include "plan.h"
#include "stream.h"

using melspec::accessible;
using melspec::overlap;

namespace {

static_assert(sizeof(melspec_config) == 112, "the layout is part of the ABI");

bool living(const melspec_plan *plan) {
  return accessible(plan, sizeof(melspec_plan), alignof(melspec_plan)) && plan->alive == melspec::kAlive;
}

bool living(const melspec_stream *stream) {
  return accessible(stream, sizeof(melspec_stream), alignof(melspec_stream)) && stream->alive == melspec::kStreaming &&
         living(stream->plan);
}

bool is_output(int32_t output) { return output >= MELSPEC_OUTPUT_POWER && output <= MELSPEC_OUTPUT_SCALED; }

constexpr int64_t kMost = 0x7fffffff;

}  // namespace

extern "C" {

int32_t melspec_abi_version(void) { return MELSPEC_ABI_VERSION; }

int32_t melspec_config_size(void) { return sizeof(melspec_config); }

const char *melspec_message(int32_t code) { return melspec::message(code); }

void *melspec_alloc(int32_t bytes) { return bytes < 0 ? nullptr : melspec::allocate(bytes); }

void melspec_free(void *memory) { melspec::release(memory); }

MELSPEC_COLD int32_t melspec_create(const melspec_config *config, melspec_plan **plan) {
  return melspec::make(config, plan);
}

MELSPEC_COLD int32_t melspec_destroy(melspec_plan *plan) {
  if (!plan) return MELSPEC_OK;
  if (!living(plan)) return MELSPEC_ERROR_PLAN;
  if (plan->streams > 0) return MELSPEC_ERROR_IN_USE;
  plan->alive = 0;
  melspec::release(plan);
  return MELSPEC_OK;
}

MELSPEC_COLD int32_t melspec_frames(const melspec_plan *plan, int32_t n_samples) {
  if (!living(plan)) return MELSPEC_ERROR_PLAN;
  if (n_samples < 0) return MELSPEC_ERROR_N_SAMPLES;
  int64_t frames = plan->frames(n_samples);
  return frames > kMost ? static_cast<int32_t>(MELSPEC_ERROR_TOO_LONG) : static_cast<int32_t>(frames);
}

MELSPEC_COLD int32_t melspec_bytes(const melspec_plan *plan, int32_t n_samples) {
  int32_t frames = melspec_frames(plan, n_samples);
  if (frames < 0) return frames;
  int64_t bytes = static_cast<int64_t>(frames) * plan->config.n_mels * 4;
  return bytes > kMost ? static_cast<int32_t>(MELSPEC_ERROR_TOO_LONG) : static_cast<int32_t>(bytes);
}

MELSPEC_COLD int32_t melspec_run(melspec_plan *plan, int32_t output, const float *samples, int32_t n_samples,
                                 float *out, int32_t capacity) {
  int32_t bytes = melspec_bytes(plan, n_samples);
  if (bytes < 0) return bytes;
  if (bytes == 0) return MELSPEC_ERROR_N_SAMPLES;
  if (!is_output(output)) return MELSPEC_ERROR_OUTPUT;
  if (capacity < bytes / 4) return MELSPEC_ERROR_CAPACITY;
  int64_t sample_bytes = static_cast<int64_t>(n_samples) * 4;
  if (!accessible(samples, sample_bytes, 4) || !accessible(out, bytes, 4) ||
      overlap(samples, sample_bytes, out, bytes) || overlap(plan, sizeof *plan, out, bytes))
    return MELSPEC_ERROR_POINTER;
  return plan->run(static_cast<melspec_output>(output), samples, n_samples, out, bytes / 4 / plan->config.n_mels);
}

int32_t melspec_run_job(const melspec_job *job) {
  if (!accessible(job, sizeof *job, alignof(melspec_job))) return MELSPEC_ERROR_POINTER;
  return melspec_run(job->plan, job->output, job->samples, job->n_samples, job->out, job->capacity);
}

int32_t melspec_bad_sample(const melspec_plan *plan) {
  return living(plan) ? plan->bad_sample : static_cast<int32_t>(MELSPEC_ERROR_PLAN);
}

MELSPEC_COLD int32_t melspec_filters(const melspec_plan *plan, float *out, int32_t capacity) {
  if (!living(plan)) return MELSPEC_ERROR_PLAN;
  int32_t count = plan->filters.n_mels * plan->filters.bins;
  if (capacity < count) return MELSPEC_ERROR_CAPACITY;
  if (!accessible(out, static_cast<int64_t>(count) * 4, 4)) return MELSPEC_ERROR_POINTER;
  plan->filters.copy(out);
  return count;
}

MELSPEC_COLD int32_t melspec_window(const melspec_plan *plan, double *out, int32_t capacity) {
  if (!living(plan)) return MELSPEC_ERROR_PLAN;
  int32_t count = plan->config.n_fft;
  if (capacity < count) return MELSPEC_ERROR_CAPACITY;
  if (!accessible(out, static_cast<int64_t>(count) * 8, 8)) return MELSPEC_ERROR_POINTER;
  for (int32_t i = 0; i < count; ++i) out[i] = plan->fft.window_at(i);
  return count;
}

MELSPEC_COLD int32_t melspec_stream_create(melspec_plan *plan, int32_t output, int32_t window_samples,
                                           int32_t step_samples, melspec_stream **stream) {
  if (!accessible(stream, sizeof *stream, alignof(melspec_stream *))) return MELSPEC_ERROR_POINTER;
  *stream = nullptr;
  int32_t bytes = melspec_bytes(plan, window_samples);
  if (bytes < 0) return bytes;
  if (bytes == 0) return MELSPEC_ERROR_N_SAMPLES;
  if (!is_output(output)) return MELSPEC_ERROR_OUTPUT;
  if (step_samples < 1) return MELSPEC_ERROR_STEP;

  melspec_stream sizes(plan, static_cast<melspec_output>(output), window_samples, step_samples);
  melspec::Arena measure{nullptr};
  measure.take<melspec_stream>(1);
  char *memory = sizes.allocate(measure) ? static_cast<char *>(melspec::allocate(measure.used)) : nullptr;
  if (!memory) return MELSPEC_ERROR_MEMORY;
  melspec::Arena arena{memory};
  melspec_stream *made = arena.take<melspec_stream>(1);
  *made = sizes;
  made->allocate(arena);
  made->reset();
  ++plan->streams;
  *stream = made;
  return MELSPEC_OK;
}

MELSPEC_COLD int32_t melspec_stream_destroy(melspec_stream *stream) {
  if (!stream) return MELSPEC_OK;
  if (!living(stream)) return MELSPEC_ERROR_STREAM;
  --stream->plan->streams;
  stream->alive = 0;
  melspec::release(stream);
  return MELSPEC_OK;
}

MELSPEC_COLD int32_t melspec_stream_push(melspec_stream *stream, const float *samples, int32_t n_samples) {
  if (!living(stream)) return MELSPEC_ERROR_STREAM;
  if (n_samples < 0) return MELSPEC_ERROR_N_SAMPLES;
  if (n_samples == 0) return 0;
  if (!accessible(samples, static_cast<int64_t>(n_samples) * 4, 4)) return MELSPEC_ERROR_POINTER;
  return stream->push(samples, n_samples);
}

int32_t melspec_stream_pull(melspec_stream *stream) {
  return living(stream) ? stream->pull() : static_cast<int32_t>(MELSPEC_ERROR_STREAM);
}

MELSPEC_COLD int32_t melspec_stream_run(melspec_chunk *chunk) {
  if (!accessible(chunk, sizeof *chunk, alignof(melspec_chunk))) return MELSPEC_ERROR_POINTER;
  if (!living(chunk->stream)) return MELSPEC_ERROR_STREAM;
  const int64_t missing = chunk->stream->missing();
  const int32_t n_samples = chunk->n_samples < missing ? chunk->n_samples : static_cast<int32_t>(missing);
  const int32_t taken = melspec_stream_push(chunk->stream, chunk->samples, n_samples);
  if (taken < 0) return taken;
  chunk->samples += taken;
  chunk->n_samples -= taken;
  return chunk->stream->pull();
}

const float *melspec_stream_window(const melspec_stream *stream) { return living(stream) ? stream->out : nullptr; }

int32_t melspec_stream_reset(melspec_stream *stream) {
  if (!living(stream)) return MELSPEC_ERROR_STREAM;
  stream->reset();
  return MELSPEC_OK;
}

int32_t melspec_stream_bad_sample(const melspec_stream *stream) {
  return living(stream) ? stream->bad_sample : static_cast<int32_t>(MELSPEC_ERROR_STREAM);
}

}  // extern "C"
