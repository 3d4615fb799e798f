/* Runs a bundle's libraries of some machine on windows, once: from the windows to mel and logits.
 *
 * Standard input: int32 windows, samples in one, floats of a mel, labels; a melspec_config; then the samples of all
 * windows. Standard output: the mel of all windows, then their logits. It ends with 0, or else says which call failed
 * on standard error.
 */
#include <labous_model.h>
#include <melspec.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "%s failed\n", what);
  exit(1);
}

static void *room(size_t bytes) {
  void *made = aligned_alloc(64, (bytes + 63) / 64 * 64);
  check(made != NULL, "memory");
  return made;
}

int main(void) {
  int32_t told[4];
  melspec_config config;
  check(fread(told, sizeof told, 1, stdin) == 1 && fread(&config, sizeof config, 1, stdin) == 1, "reading the input");
  size_t windows = (size_t)told[0], n_samples = (size_t)told[1], n_mel = (size_t)told[2], n_labels = (size_t)told[3];
  float *samples = room(n_samples * sizeof(float)), *mel = room(windows * n_mel * sizeof(float)),
        *logits = room(windows * n_labels * sizeof(float));
  check(labous_model_abi_version() == LABOUS_MODEL_ABI_VERSION, "labous_model_abi_version");
  check((size_t)labous_model_inputs() == n_mel && (size_t)labous_model_outputs() == n_labels, "the model's sizes");
  void *arena = room((size_t)labous_model_arena_bytes());
  memset(arena, 0xff, (size_t)labous_model_arena_bytes()); /* what is in it before a call does not matter */
  melspec_plan *plan;
  check(melspec_create(&config, &plan) == 0, "melspec_create");
  for (size_t n = 0; n < windows; ++n) {
    check(fread(samples, sizeof(float), n_samples, stdin) == n_samples, "reading the samples");
    check(melspec_run(plan, MELSPEC_OUTPUT_SCALED, samples, told[1], mel + n * n_mel, told[2]) > 0, "melspec_run");
    check(labous_model_run(mel + n * n_mel, logits + n * n_labels, arena) == 0, "labous_model_run");
  }
  check(melspec_destroy(plan) == 0, "melspec_destroy");
  check(fwrite(mel, sizeof(float), windows * n_mel, stdout) == windows * n_mel, "writing the mel");
  check(fwrite(logits, sizeof(float), windows * n_labels, stdout) == windows * n_labels, "writing the logits");
  return fflush(stdout) != 0;
}
