/* Runs a bundle's mel library of some machine on windows, once, where its front end is a power law.
 *
 * Standard input: int32 windows, samples in one, floats of an input, shifts, and each shift; a melspec_law_config; then
 * the samples of all windows. Standard output: the inputs of all windows. It ends with 0, or else says which call failed
 * on standard error.
 */
#include <melspec.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "%s failed\n", what);
  exit(1);
}

static void *room(size_t count, size_t size) {
  void *made = malloc(count * size + 1);
  check(made != NULL, "memory");
  return made;
}

int main(void) {
  int32_t told[4];
  melspec_law_config config;
  melspec_law *law;
  check(fread(told, sizeof told, 1, stdin) == 1, "reading the sizes");
  size_t windows = (size_t)told[0], n_samples = (size_t)told[1], n_mel = (size_t)told[2], n_shifts = (size_t)told[3];
  int32_t *shifts = room(n_shifts, sizeof(int32_t));
  float *samples = room(n_samples, sizeof(float)), *mel = room(n_mel, sizeof(float));
  check(fread(shifts, sizeof(int32_t), n_shifts, stdin) == n_shifts, "reading the shifts");
  check(fread(&config, sizeof config, 1, stdin) == 1, "reading the front end");
  check(melspec_law_config_size() == (int32_t)sizeof config, "melspec_law_config_size");
  check(melspec_law_create(&config, &law) == 0, "melspec_law_create");
  for (size_t n = 0; n < windows; ++n) {
    check(fread(samples, sizeof(float), n_samples, stdin) == n_samples, "reading the samples");
    for (size_t s = 0; s < n_shifts; ++s) {
      check(melspec_law_run(law, samples, told[1], shifts[s], mel, told[2]) > 0, "melspec_law_run");
      check(fwrite(mel, sizeof(float), n_mel, stdout) == n_mel, "writing the mel");
    }
  }
  check(melspec_law_destroy(law) == 0, "melspec_law_destroy");
  return fflush(stdout) != 0;
}
