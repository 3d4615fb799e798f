/* The mel stage in a C program: mel samples.f32 out.f32
 *
 * Reads mono float32 samples at 32 kHz, writes decibels as float32, row-major [n_mels, frames], with the constants of
 * conf/frontend/mel64.yaml, and prints n_mels and frames. After python ../build.py native, in this folder:
 *
 *   cc -std=c99 -I../include mel.c -L../build -lmelspec -Wl,-rpath,"$PWD/../build" -o mel
 */
#include <stdio.h>
#include <stdlib.h>

#include "melspec.h"

static int32_t check(int32_t code) {
  if (code >= 0) return code;
  fprintf(stderr, "mel: %s (%d)\n", melspec_message(code), (int)code);
  exit(1);
}

static void *required(void *pointer, const char *what) {
  if (pointer) return pointer;
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 3 || melspec_abi_version() != MELSPEC_ABI_VERSION) {
    fprintf(stderr, "usage: mel samples.f32 out.f32, with a library of ABI version %d\n", MELSPEC_ABI_VERSION);
    return 1;
  }
  FILE *in = required(fopen(argv[1], "rb"), argv[1]);
  fseek(in, 0, SEEK_END);
  int32_t count = (int32_t)(ftell(in) / 4);
  rewind(in);
  float *samples = required(malloc(4 * (size_t)count + 4), argv[1]);
  if (fread(samples, 4, (size_t)count, in) != (size_t)count) required(NULL, argv[1]);
  fclose(in);

  melspec_config config = {.abi_version = MELSPEC_ABI_VERSION, .sample_rate = 32000, .n_fft = 1024,
      .win_length = 1024, .hop_length = 500, .window = MELSPEC_WINDOW_HANN, .center = 0,
      .pad_mode = MELSPEC_PAD_CONSTANT, .power = 2, .n_mels = 64, .f_min = 150.0, .f_max = 15000.0,
      .mel_scale = MELSPEC_SCALE_SLANEY, .mel_norm = MELSPEC_NORM_SLANEY, .amin = 1e-8, .ref = 1.0,
      .ref_mode = MELSPEC_REF_FIXED, .has_top_db = 0, .db_offset = 40.0, .db_scale = 0.05};
  melspec_plan *plan;
  check(melspec_create(&config, &plan)); /* once for many runs */

  int32_t bytes = check(melspec_bytes(plan, count));
  float *decibels = required(malloc((size_t)bytes + 4), "decibels");
  int32_t frames = check(melspec_run(plan, MELSPEC_OUTPUT_DECIBELS, samples, count, decibels, bytes / 4));
  FILE *out = required(fopen(argv[2], "wb"), argv[2]);
  if (fwrite(decibels, 4, (size_t)bytes / 4, out) != (size_t)bytes / 4 || fclose(out)) required(NULL, argv[2]);
  printf("%d %d\n", (int)config.n_mels, (int)frames);

  free(decibels);
  free(samples);
  return check(melspec_destroy(plan));
}
