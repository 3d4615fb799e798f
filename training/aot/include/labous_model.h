/* A bundle's model as a C library without dependencies: log-mel in, logits out.
 *
 * The same functions are exported by the WebAssembly module, which has no imports; there a pointer is a 4-byte offset
 * into the exported `memory`, which never grows, and labous_model_memory has room for a call.
 *
 * A library has no state and allocates nothing. What a call needs to work in, the arena, is the caller's: calls with
 * arenas of their own may run at the same time. Everything is float32, little-endian, and aligned to 4 bytes; an
 * arena that is aligned to 64 bytes is a little faster. The weights are inside.
 */
#ifndef LABOUS_MODEL_H
#define LABOUS_MODEL_H

#include <stdint.h>

#ifdef LABOUS_MODEL_API
/* said on the command line: a module that is made of this and more need not export it */
#elif defined __wasm__
#define LABOUS_MODEL_API(name) __attribute__((export_name(#name)))
#else
#define LABOUS_MODEL_API(name) __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define LABOUS_MODEL_ABI_VERSION 1

enum labous_model_error {
  LABOUS_MODEL_OK = 0,
  LABOUS_MODEL_ERROR_POINTER = -1 /* null, or not aligned to 4 bytes */
};

/* LABOUS_MODEL_ABI_VERSION of the library. Ask this first. */
LABOUS_MODEL_API(labous_model_abi_version) int32_t labous_model_abi_version(void);

/* The sha256 of the .tflite file that it was made from, in 64 lower-case hex digits, NUL-terminated. */
LABOUS_MODEL_API(labous_model_source) const char *labous_model_source(void);

/* Floats of the input, n_mels * n_frames, and of the output, n_labels. */
LABOUS_MODEL_API(labous_model_inputs) int32_t labous_model_inputs(void);
LABOUS_MODEL_API(labous_model_outputs) int32_t labous_model_outputs(void);

/* Bytes of the arena. What is in it before a call does not matter. */
LABOUS_MODEL_API(labous_model_arena_bytes) int32_t labous_model_arena_bytes(void);

/* Reads labous_model_inputs floats, row-major [n_mels, n_frames], and writes labous_model_outputs logits. The three may
 * not overlap. Returns LABOUS_MODEL_OK, or a code, and then nothing is written. What a NaN in the
 * input makes of the logits is not said: ask the mel stage, which refuses one among its samples. */
LABOUS_MODEL_API(labous_model_run) int32_t labous_model_run(const float *mel, float *logits, void *arena);

#ifdef __wasm__
/* Room for one call at a time, of a host that has no memory of its own in here: the arena, aligned to 64 bytes, then
 * the input, then the output, each on the next multiple of 64 bytes. */
LABOUS_MODEL_API(labous_model_memory) void *labous_model_memory(void);
#endif

#ifdef __cplusplus
}
#endif
#endif
