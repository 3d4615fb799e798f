/* Hears a window as often as the first argument says, and then runs the model alone as often as the second says. */

#include <stdlib.h>

#include "labous_hear.h"
#include "labous_model.h"

int main(int argc, char **argv) {
  static float logits[1 << 16];
  uint32_t state = 1;
  if (argc != 3 || labous_hear_open() != 0 || labous_hear_labels() > (int32_t)(sizeof logits / sizeof *logits)) return 1;
  float *const samples = labous_hear_samples();
  for (int32_t i = 0; i < labous_hear_window_samples(); i++) {
    state = state * 1664525 + 1013904223;
    samples[i] = (float)(int32_t)state * 0x1p-33f;
  }
  void *const arena = aligned_alloc(64, (labous_model_arena_bytes() + 63) / 64 * 64);
  if (!arena) return 1;
  for (int n = atoi(argv[1]); n > 0; n--)
    if (labous_hear() != 0) return 2;
  for (int n = atoi(argv[2]); n > 0; n--)
    if (labous_model_run(labous_hear_mel(), logits, arena) != 0) return 3;
  return 0;
}
