/* A whole bundle as C or as one WebAssembly module: sound in, logits out.
 *
 * The front end, the model, the labels and what makes probabilities of logits are all inside, taken from one bundle.
 * hear.wasm has these functions and no imports: any WebAssembly host with SIMD128 can call it. There a pointer is a
 * 4-byte offset into the exported `memory`. docs/hear.md shows hosts in Python, JavaScript and Rust.
 *
 *   1. Check labous_hear_abi_version() against LABOUS_HEAR_ABI_VERSION.
 *   2. labous_hear_open(), once. The memory grows in this call and in no other: take views of it afterwards.
 *   3. For each window, write labous_hear_window_samples() floats to labous_hear_samples(), call labous_hear(), and read
 *      labous_hear_labels() floats from labous_hear_logits(). These addresses never change.
 *
 * Label i's probability is 1 / (1 + exp(-(labous_hear_scale(i) * logit + labous_hear_offset(i)))), and it is heard from
 * labous_hear_threshold(i) on. docs/bundle.md, "From a recording to detections", says how a recording is cut into windows
 * and when logits are smoothed before.
 *
 * Everything lies in buffers of its own, so there is one listener in a program, or in an instance of the module, and one
 * thread at a time uses it. Texts are UTF-8, NUL-terminated, and stay its own.
 */
#ifndef LABOUS_HEAR_H
#define LABOUS_HEAR_H

#include <stdint.h>

#ifdef __wasm__
#define LABOUS_HEAR_API(name) __attribute__((export_name(#name)))
#else
#define LABOUS_HEAR_API(name)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The ABI grows by new functions; the version changes only when one of these changes its meaning. */
#define LABOUS_HEAR_ABI_VERSION 1

/* What labous_hear_label gives: the columns of a bundle's labels.csv. */
enum labous_hear_column {
  LABOUS_HEAR_EBIRD_CODE = 0,
  LABOUS_HEAR_SCIENTIFIC_NAME = 1,
  LABOUS_HEAR_COMMON_NAME = 2,
  LABOUS_HEAR_FRENCH_NAME = 3
};

/* LABOUS_HEAR_ABI_VERSION of the module. Ask this first. */
LABOUS_HEAR_API(labous_hear_abi_version) int32_t labous_hear_abi_version(void);

/* The bundle's name and version, and the sha256 of its model.tflite in 64 lower-case hex digits. */
LABOUS_HEAR_API(labous_hear_name) const char *labous_hear_name(void);
LABOUS_HEAR_API(labous_hear_version) const char *labous_hear_version(void);
LABOUS_HEAR_API(labous_hear_source) const char *labous_hear_source(void);

/* 1: trained on generated sound, so that it knows no real bird, which a host should say; 0: it is not. */
LABOUS_HEAR_API(labous_hear_synthetic) int32_t labous_hear_synthetic(void);

/* Of the sound that it takes, Hz. */
LABOUS_HEAR_API(labous_hear_sample_rate) int32_t labous_hear_sample_rate(void);

/* Samples of a window; and the fewest after a recording's last whole window for which there is one more. */
LABOUS_HEAR_API(labous_hear_window_samples) int32_t labous_hear_window_samples(void);
LABOUS_HEAR_API(labous_hear_tail_samples) int32_t labous_hear_tail_samples(void);

/* How many labels, and so logits, there are. */
LABOUS_HEAR_API(labous_hear_labels) int32_t labous_hear_labels(void);

/* A name of a label: a labous_hear_column. Null where there is no such label or column. */
LABOUS_HEAR_API(labous_hear_label) const char *labous_hear_label(int32_t label, int32_t column);

/* What makes a probability of a label's logit, and from which probability on it is heard; NaN where there is no such label. */
LABOUS_HEAR_API(labous_hear_scale) float labous_hear_scale(int32_t label);
LABOUS_HEAR_API(labous_hear_offset) float labous_hear_offset(int32_t label);
LABOUS_HEAR_API(labous_hear_threshold) float labous_hear_threshold(int32_t label);

/* How much of each neighboring window's logits is mixed in before that, 0 to 1/3; 0: nothing. */
LABOUS_HEAR_API(labous_hear_neighbor_weight) double labous_hear_neighbor_weight(void);

/* Prepares the front end. Returns 0, or a negative melspec_error code of melspec.h; where it was called before, 0. */
LABOUS_HEAR_API(labous_hear_open) int32_t labous_hear_open(void);

/* Where a window goes: labous_hear_window_samples floats, mono, full scale +-1, at labous_hear_sample_rate. It is left as
 * it is. */
LABOUS_HEAR_API(labous_hear_samples) float *labous_hear_samples(void);

/* Where its logits come from, labous_hear_labels floats. */
LABOUS_HEAR_API(labous_hear_logits) const float *labous_hear_logits(void);

/* Where what the model saw is, row-major [n_mels, n_frames] floats: the same bits as melspec.wasm's. */
LABOUS_HEAR_API(labous_hear_mel) const float *labous_hear_mel(void);

/* Hears the window. Returns 0, or a negative melspec_error code, and then logits and mel are as they were:
 * MELSPEC_ERROR_NOT_FINITE (-24) for a NaN or infinite sample, MELSPEC_ERROR_PLAN (-19) before labous_hear_open. */
LABOUS_HEAR_API(labous_hear) int32_t labous_hear(void);

/* Index of the first NaN or infinite sample of the window that was refused for it last. */
LABOUS_HEAR_API(labous_hear_bad_sample) int32_t labous_hear_bad_sample(void);

/* One sentence for a code, ASCII, never null. */
LABOUS_HEAR_API(labous_hear_message) const char *labous_hear_message(int32_t code);

#ifdef __cplusplus
}
#endif
#endif
