/* melspec.h over the C that wasm2c makes of a mel module: for boards that have no WebAssembly engine.
 *
 * Every plan is an instance of the module with a memory of its own, so that plans are as independent of each other as
 * in the native library. What a caller passes is copied in, results are copied out, and whatever the module does, it
 * stays within its memory: where an engine would trap, the call returns a code below MELSPEC_TRAPPED, for which
 * melspec_message has a sentence. After that the plan and its streams are only good for being destroyed. The one thing
 * that ends the program is a host without memory for a fresh instance (some 128 KB): so it is in wasm2c's runtime.
 */
#include "melspec.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "module.h" /* wasm2c wrote it */
#include "wasm-rt-exceptions.h"
#include "wasm-rt-impl.h"

#if WASM_RT_MEMCHECK_GUARD_PAGES || WASM_RT_USE_MMAP
#error "a library keeps its hands off SIGSEGV: define WASM_RT_MEMCHECK_BOUNDS_CHECK=1 and WASM_RT_USE_MMAP=0"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the module's memory is little-endian, and is copied as it is"
#endif

enum { MELSPEC_TRAPPED = -100 }; /* less the wasm_rt_trap_t, which is at least 1 */

/* Returns the value of an expression from the function that it is in, or the code of the trap that it ends in. */
#define RETURN_GUARDED(expression)                \
  do {                                            \
    int trap = wasm_rt_impl_try();                \
    if (trap != 0) return MELSPEC_TRAPPED - trap; \
    return (int32_t)(expression);                 \
  } while (0)

struct melspec_plan {
  w2c_module module;
  u32 address;         /* of the plan inside the module */
  u32 filters, window; /* how many elements they have */
  u32 streams;         /* how many there are */
};

struct melspec_stream {
  melspec_plan *plan;
  u32 address; /* of the stream inside the plan's module */
  u32 bytes;     /* of a window */
  float *window; /* a copy: the module's own moves when its memory grows */
};

/* What needs no plan is asked here. Nothing is allocated in it, so that its memory never moves. */
static w2c_module common;

__attribute__((constructor)) static void start(void) {
  wasm_rt_init();
  wasm2c_module_instantiate(&common);
}

static int usable(const void *pointer, size_t alignment) {
  return pointer != NULL && (uintptr_t)pointer % alignment == 0;
}

static int is_plan(const melspec_plan *plan) { return usable(plan, alignof(melspec_plan)); }

static int is_stream(const melspec_stream *stream) { return usable(stream, alignof(melspec_stream)); }

/* The module of a const plan, too, works in its memory: on its stack, at least. */
static w2c_module *module_of(const melspec_plan *plan) { return (w2c_module *)&plan->module; }

/* The host's address of `bytes` at `address` in the module, until the module's memory grows. */
static void *inside(w2c_module *module, u32 address, u64 bytes) {
  wasm_rt_memory_t *memory = w2c_module_memory(module);
  if (address + bytes > memory->size) wasm_rt_trap(WASM_RT_TRAP_OOB);
  return memory->data + address;
}

/* Room for `bytes` in the module, or 0. */
static u32 reserve(w2c_module *module, u64 bytes) {
  return bytes > INT32_MAX ? 0 : w2c_module_melspec_alloc(module, (u32)bytes);
}

static u32 create(melspec_plan *made, const melspec_config *config) {
  w2c_module *module = &made->module;
  wasm2c_module_instantiate(module);
  u32 given = reserve(module, sizeof *config + sizeof made->address);
  if (given == 0) return (u32)MELSPEC_ERROR_MEMORY;
  u32 plan = given + sizeof *config;
  memcpy(inside(module, given, sizeof *config), config, sizeof *config);
  u32 code = w2c_module_melspec_create(module, given, plan);
  memcpy(&made->address, inside(module, plan, sizeof made->address), sizeof made->address);
  w2c_module_melspec_free(module, given);
  made->filters = (u32)config->n_mels * (1 + (u32)config->n_fft / 2);
  made->window = (u32)config->n_fft;
  return code;
}

static int overlap(const void *a, u64 a_bytes, const void *b, u64 b_bytes) {
  u64 x = (uintptr_t)a, y = (uintptr_t)b;
  return x < y + b_bytes && y < x + a_bytes;
}

static u32 run(melspec_plan *plan, u32 output, const float *samples, u32 n_samples, float *out, u32 capacity) {
  w2c_module *module = &plan->module;
  int32_t bytes = (int32_t)w2c_module_melspec_bytes(module, plan->address, n_samples);
  u64 sample_bytes = (u64)n_samples * sizeof(float);
  if (bytes <= 0 || (int32_t)capacity < bytes / 4 || !usable(samples, alignof(float)) || !usable(out, alignof(float)) ||
      overlap(samples, sample_bytes, out, (u64)bytes))
    return w2c_module_melspec_run(module, plan->address, output, 0, n_samples, 0, capacity); /* it says what is wrong */
  u32 from = reserve(module, sample_bytes), to = reserve(module, (u64)bytes), frames = (u32)MELSPEC_ERROR_MEMORY;
  if (from != 0 && to != 0) {
    memcpy(inside(module, from, sample_bytes), samples, (size_t)sample_bytes);
    frames = w2c_module_melspec_run(module, plan->address, output, from, n_samples, to, capacity);
    if ((int32_t)frames >= 0) memcpy(out, inside(module, to, (u64)bytes), (size_t)bytes);
  }
  w2c_module_melspec_free(module, from);
  w2c_module_melspec_free(module, to);
  return frames;
}

typedef u32 copier(w2c_module *, u32, u32, u32);

/* melspec_filters and melspec_window: `count` elements of `size` bytes. */
static u32 copy(const melspec_plan *plan, copier *function, void *out, u32 count, u32 size, int32_t capacity) {
  w2c_module *module = module_of(plan);
  if (capacity < (int32_t)count || !usable(out, size)) return function(module, plan->address, 0, (u32)capacity);
  u64 bytes = (u64)count * size;
  u32 to = reserve(module, bytes);
  if (to == 0) return (u32)MELSPEC_ERROR_MEMORY;
  u32 written = function(module, plan->address, to, count);
  if (written == count) memcpy(out, inside(module, to, bytes), (size_t)bytes);
  w2c_module_melspec_free(module, to);
  return written;
}

int32_t melspec_abi_version(void) { RETURN_GUARDED(w2c_module_melspec_abi_version(&common)); }

int32_t melspec_config_size(void) { RETURN_GUARDED(w2c_module_melspec_config_size(&common)); }

const char *melspec_message(int32_t code) {
  int trap = wasm_rt_impl_try();
  if (trap != 0) return wasm_rt_strerror((wasm_rt_trap_t)trap);
  if (code < MELSPEC_TRAPPED) return wasm_rt_strerror((wasm_rt_trap_t)(MELSPEC_TRAPPED - code));
  return inside(&common, w2c_module_melspec_message(&common, (u32)code), 1);
}

void *melspec_alloc(int32_t bytes) { return bytes < 0 ? NULL : aligned_alloc(16, ((size_t)bytes + 15) & ~(size_t)15); }

void melspec_free(void *memory) { free(memory); }

static int32_t guarded_create(melspec_plan *made, const melspec_config *config) {
  RETURN_GUARDED(create(made, config));
}

int32_t melspec_create(const melspec_config *config, melspec_plan **plan) {
  if (!usable(plan, alignof(melspec_plan *))) return MELSPEC_ERROR_POINTER;
  *plan = NULL;
  if (!usable(config, alignof(melspec_config))) return MELSPEC_ERROR_POINTER;
  melspec_plan *made = calloc(1, sizeof *made);
  if (made == NULL) return MELSPEC_ERROR_MEMORY;
  int32_t code = guarded_create(made, config);
  if (code == MELSPEC_OK)
    *plan = made;
  else
    melspec_destroy(made);
  return code;
}

int32_t melspec_destroy(melspec_plan *plan) {
  if (plan == NULL) return MELSPEC_OK;
  if (!is_plan(plan)) return MELSPEC_ERROR_PLAN;
  if (plan->streams > 0) return MELSPEC_ERROR_IN_USE;
  wasm2c_module_free(&plan->module);
  free(plan);
  return MELSPEC_OK;
}

int32_t melspec_frames(const melspec_plan *plan, int32_t n_samples) {
  if (!is_plan(plan)) return MELSPEC_ERROR_PLAN;
  RETURN_GUARDED(w2c_module_melspec_frames(module_of(plan), plan->address, (u32)n_samples));
}

int32_t melspec_bytes(const melspec_plan *plan, int32_t n_samples) {
  if (!is_plan(plan)) return MELSPEC_ERROR_PLAN;
  RETURN_GUARDED(w2c_module_melspec_bytes(module_of(plan), plan->address, (u32)n_samples));
}

int32_t melspec_run(melspec_plan *plan, int32_t output, const float *samples, int32_t n_samples, float *out,
                    int32_t capacity) {
  if (!is_plan(plan)) return MELSPEC_ERROR_PLAN;
  RETURN_GUARDED(run(plan, (u32)output, samples, (u32)n_samples, out, (u32)capacity));
}

int32_t melspec_run_job(const melspec_job *job) {
  if (!usable(job, alignof(melspec_job))) return MELSPEC_ERROR_POINTER;
  return melspec_run(job->plan, job->output, job->samples, job->n_samples, job->out, job->capacity);
}

int32_t melspec_bad_sample(const melspec_plan *plan) {
  if (!is_plan(plan)) return MELSPEC_ERROR_PLAN;
  RETURN_GUARDED(w2c_module_melspec_bad_sample(module_of(plan), plan->address));
}

int32_t melspec_filters(const melspec_plan *plan, float *out, int32_t capacity) {
  if (!is_plan(plan)) return MELSPEC_ERROR_PLAN;
  RETURN_GUARDED(copy(plan, w2c_module_melspec_filters, out, plan->filters, sizeof *out, capacity));
}

int32_t melspec_window(const melspec_plan *plan, double *out, int32_t capacity) {
  if (!is_plan(plan)) return MELSPEC_ERROR_PLAN;
  RETURN_GUARDED(copy(plan, w2c_module_melspec_window, out, plan->window, sizeof *out, capacity));
}

static u32 create_stream(melspec_stream *made, u32 output, u32 window_samples, u32 step_samples) {
  w2c_module *module = &made->plan->module;
  u32 stream = reserve(module, sizeof made->address);
  if (stream == 0) return (u32)MELSPEC_ERROR_MEMORY;
  u32 code =
      w2c_module_melspec_stream_create(module, made->plan->address, output, window_samples, step_samples, stream);
  memcpy(&made->address, inside(module, stream, sizeof made->address), sizeof made->address);
  w2c_module_melspec_free(module, stream);
  if (code != MELSPEC_OK) return code;
  made->bytes = w2c_module_melspec_bytes(module, made->plan->address, window_samples);
  made->window = malloc(made->bytes);
  if (made->window != NULL) return MELSPEC_OK;
  w2c_module_melspec_stream_destroy(module, made->address);
  return (u32)MELSPEC_ERROR_MEMORY;
}

static int32_t guarded_create_stream(melspec_stream *made, int32_t output, int32_t window, int32_t step) {
  RETURN_GUARDED(create_stream(made, (u32)output, (u32)window, (u32)step));
}

int32_t melspec_stream_create(melspec_plan *plan, int32_t output, int32_t window_samples, int32_t step_samples,
                              melspec_stream **stream) {
  if (!usable(stream, alignof(melspec_stream *))) return MELSPEC_ERROR_POINTER;
  *stream = NULL;
  if (!is_plan(plan)) return MELSPEC_ERROR_PLAN;
  melspec_stream *made = calloc(1, sizeof *made);
  if (made == NULL) return MELSPEC_ERROR_MEMORY;
  made->plan = plan;
  int32_t code = guarded_create_stream(made, output, window_samples, step_samples);
  if (code == MELSPEC_OK) {
    ++plan->streams;
    *stream = made;
  } else {
    free(made);
  }
  return code;
}

static int32_t guarded_destroy_stream(melspec_stream *stream) {
  RETURN_GUARDED(w2c_module_melspec_stream_destroy(&stream->plan->module, stream->address));
}

int32_t melspec_stream_destroy(melspec_stream *stream) {
  if (stream == NULL) return MELSPEC_OK;
  if (!is_stream(stream)) return MELSPEC_ERROR_STREAM;
  guarded_destroy_stream(stream); /* a trap is no reason to keep it */
  --stream->plan->streams;
  free(stream->window);
  free(stream);
  return MELSPEC_OK;
}

static u32 push(melspec_stream *stream, const float *samples, u32 n_samples) {
  w2c_module *module = &stream->plan->module;
  if ((int32_t)n_samples <= 0 || !usable(samples, alignof(float)))
    return w2c_module_melspec_stream_push(module, stream->address, 0, n_samples);
  u64 bytes = (u64)n_samples * sizeof(float);
  u32 from = reserve(module, bytes);
  if (from == 0) return (u32)MELSPEC_ERROR_MEMORY;
  memcpy(inside(module, from, bytes), samples, (size_t)bytes);
  u32 taken = w2c_module_melspec_stream_push(module, stream->address, from, n_samples);
  w2c_module_melspec_free(module, from);
  return taken;
}

int32_t melspec_stream_push(melspec_stream *stream, const float *samples, int32_t n_samples) {
  if (!is_stream(stream)) return MELSPEC_ERROR_STREAM;
  RETURN_GUARDED(push(stream, samples, (u32)n_samples));
}

static u32 take_window(melspec_stream *stream, u32 frames) {
  w2c_module *module = &stream->plan->module;
  if ((int32_t)frames > 0) {
    u32 window = w2c_module_melspec_stream_window(module, stream->address);
    memcpy(stream->window, inside(module, window, stream->bytes), stream->bytes);
  }
  return frames;
}

static u32 pull(melspec_stream *stream) {
  return take_window(stream, w2c_module_melspec_stream_pull(&stream->plan->module, stream->address));
}

int32_t melspec_stream_pull(melspec_stream *stream) {
  if (!is_stream(stream)) return MELSPEC_ERROR_STREAM;
  RETURN_GUARDED(pull(stream));
}

static u32 run_stream(melspec_chunk *chunk) {
  melspec_stream *stream = chunk->stream;
  w2c_module *module = &stream->plan->module;
  u32 given[] = {stream->address, 0, (u32)chunk->n_samples}, left[3];
  int good = chunk->n_samples > 0 && usable(chunk->samples, alignof(float));
  u64 bytes = good ? (u64)chunk->n_samples * sizeof(float) : 0;
  u32 at = reserve(module, sizeof given + bytes);
  if (at == 0) return (u32)MELSPEC_ERROR_MEMORY;
  if (good) memcpy(inside(module, given[1] = at + sizeof given, bytes), chunk->samples, (size_t)bytes);
  memcpy(inside(module, at, sizeof given), given, sizeof given);
  u32 frames = w2c_module_melspec_stream_run(module, at);
  memcpy(left, inside(module, at, sizeof left), sizeof left);
  w2c_module_melspec_free(module, at);
  if ((int32_t)frames < 0) return frames;
  if (good) chunk->samples += given[2] - left[2];
  chunk->n_samples = (int32_t)left[2];
  return take_window(stream, frames);
}

int32_t melspec_stream_run(melspec_chunk *chunk) {
  if (!usable(chunk, alignof(melspec_chunk))) return MELSPEC_ERROR_POINTER;
  if (!is_stream(chunk->stream)) return MELSPEC_ERROR_STREAM;
  RETURN_GUARDED(run_stream(chunk));
}

const float *melspec_stream_window(const melspec_stream *stream) { return is_stream(stream) ? stream->window : NULL; }

int32_t melspec_stream_reset(melspec_stream *stream) {
  if (!is_stream(stream)) return MELSPEC_ERROR_STREAM;
  RETURN_GUARDED(w2c_module_melspec_stream_reset(&stream->plan->module, stream->address));
}

int32_t melspec_stream_bad_sample(const melspec_stream *stream) {
  if (!is_stream(stream)) return MELSPEC_ERROR_STREAM;
  RETURN_GUARDED(w2c_module_melspec_stream_bad_sample(&stream->plan->module, stream->address));
}

#ifdef MELSPEC_WITH_LAW /* older modules have none */

struct melspec_law {
  w2c_module module;
  u32 address;                       /* of the law inside the module */
  u32 filters[MELSPEC_LAW_CHANNELS]; /* how many elements they have */
};

static int is_law(const melspec_law *law) { return usable(law, alignof(melspec_law)); }

static w2c_module *module_of_law(const melspec_law *law) { return (w2c_module *)&law->module; }

int32_t melspec_law_config_size(void) { RETURN_GUARDED(w2c_module_melspec_law_config_size(&common)); }

static u32 create_law(melspec_law *made, const melspec_law_config *config) {
  w2c_module *module = &made->module;
  wasm2c_module_instantiate(module);
  u32 given = reserve(module, sizeof *config + sizeof made->address);
  if (given == 0) return (u32)MELSPEC_ERROR_MEMORY;
  u32 law = given + sizeof *config;
  memcpy(inside(module, given, sizeof *config), config, sizeof *config);
  u32 code = w2c_module_melspec_law_create(module, given, law);
  memcpy(&made->address, inside(module, law, sizeof made->address), sizeof made->address);
  w2c_module_melspec_free(module, given);
  for (int32_t i = 0; code == MELSPEC_OK && i < config->n_channels && i < MELSPEC_LAW_CHANNELS; ++i)
    made->filters[i] = (u32)config->n_mels * (1 + (u32)config->channels[i].n_fft / 2);
  return code;
}

static int32_t guarded_create_law(melspec_law *made, const melspec_law_config *config) {
  RETURN_GUARDED(create_law(made, config));
}

int32_t melspec_law_create(const melspec_law_config *config, melspec_law **law) {
  if (!usable(law, alignof(melspec_law *))) return MELSPEC_ERROR_POINTER;
  *law = NULL;
  if (!usable(config, alignof(melspec_law_config))) return MELSPEC_ERROR_POINTER;
  melspec_law *made = calloc(1, sizeof *made);
  if (made == NULL) return MELSPEC_ERROR_MEMORY;
  int32_t code = guarded_create_law(made, config);
  if (code == MELSPEC_OK)
    *law = made;
  else
    melspec_law_destroy(made);
  return code;
}

int32_t melspec_law_destroy(melspec_law *law) {
  if (law == NULL) return MELSPEC_OK;
  if (!is_law(law)) return MELSPEC_ERROR_LAW;
  wasm2c_module_free(&law->module);
  free(law);
  return MELSPEC_OK;
}

int32_t melspec_law_frames(const melspec_law *law, int32_t n_samples) {
  if (!is_law(law)) return MELSPEC_ERROR_LAW;
  RETURN_GUARDED(w2c_module_melspec_law_frames(module_of_law(law), law->address, (u32)n_samples));
}

int32_t melspec_law_bytes(const melspec_law *law, int32_t n_samples) {
  if (!is_law(law)) return MELSPEC_ERROR_LAW;
  RETURN_GUARDED(w2c_module_melspec_law_bytes(module_of_law(law), law->address, (u32)n_samples));
}

static u32 run_law(melspec_law *law, const float *samples, int32_t n_samples, int32_t first, float *out,
                   u32 capacity) {
  w2c_module *module = &law->module;
  int good = n_samples >= 0 && first >= 0 && first <= n_samples;
  int32_t bytes = good ? (int32_t)w2c_module_melspec_law_bytes(module, law->address, (u32)(n_samples - first)) : -1;
  u64 sample_bytes = (u64)n_samples * sizeof(float);
  if (bytes <= 0 || (int32_t)capacity < bytes / 4 || !usable(samples, alignof(float)) || !usable(out, alignof(float)) ||
      overlap(samples, sample_bytes, out, (u64)bytes)) /* it says what is wrong */
    return w2c_module_melspec_law_run(module, law->address, 0, (u32)n_samples, (u32)first, 0, capacity);
  u32 from = reserve(module, sample_bytes), to = reserve(module, (u64)bytes), frames = (u32)MELSPEC_ERROR_MEMORY;
  if (from != 0 && to != 0) {
    memcpy(inside(module, from, sample_bytes), samples, (size_t)sample_bytes);
    frames = w2c_module_melspec_law_run(module, law->address, from, (u32)n_samples, (u32)first, to, capacity);
    if ((int32_t)frames >= 0) memcpy(out, inside(module, to, (u64)bytes), (size_t)bytes);
  }
  w2c_module_melspec_free(module, from);
  w2c_module_melspec_free(module, to);
  return frames;
}

int32_t melspec_law_run(melspec_law *law, const float *samples, int32_t n_samples, int32_t first_sample, float *out,
                        int32_t capacity) {
  if (!is_law(law)) return MELSPEC_ERROR_LAW;
  RETURN_GUARDED(run_law(law, samples, n_samples, first_sample, out, (u32)capacity));
}

int32_t melspec_law_bad_sample(const melspec_law *law) {
  if (!is_law(law)) return MELSPEC_ERROR_LAW;
  RETURN_GUARDED(w2c_module_melspec_law_bad_sample(module_of_law(law), law->address));
}

static u32 copy_law_filters(const melspec_law *law, u32 channel, float *out, u32 capacity) {
  w2c_module *module = module_of_law(law);
  u32 count = channel < MELSPEC_LAW_CHANNELS ? law->filters[channel] : 0;
  if (count == 0 || (int32_t)capacity < (int32_t)count || !usable(out, alignof(float)))
    return w2c_module_melspec_law_filters(module, law->address, channel, 0, capacity);
  u32 to = reserve(module, (u64)count * sizeof *out);
  if (to == 0) return (u32)MELSPEC_ERROR_MEMORY;
  u32 written = w2c_module_melspec_law_filters(module, law->address, channel, to, count);
  if (written == count) memcpy(out, inside(module, to, (u64)count * sizeof *out), (size_t)count * sizeof *out);
  w2c_module_melspec_free(module, to);
  return written;
}

int32_t melspec_law_filters(const melspec_law *law, int32_t channel, float *out, int32_t capacity) {
  if (!is_law(law)) return MELSPEC_ERROR_LAW;
  RETURN_GUARDED(copy_law_filters(law, (u32)channel, out, (u32)capacity));
}

#endif
