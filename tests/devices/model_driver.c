/* Inputs from standard input, logits to standard output, one after the other, by a library of training.aot. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "labous_model.h"

int main(void) {
  size_t inputs = labous_model_inputs(), outputs = labous_model_outputs(), bytes = labous_model_arena_bytes();
  float *mel = malloc(4 * inputs), *logits = malloc(4 * outputs);
  char *arena = malloc(bytes + 64);
  if (!mel || !logits || !arena || labous_model_abi_version() != LABOUS_MODEL_ABI_VERSION) return 1;
  if (strlen(labous_model_source()) != 64) return 2;
  if (labous_model_run(NULL, logits, arena) != LABOUS_MODEL_ERROR_POINTER) return 3;
  if (labous_model_run(mel, logits, arena + 1) != LABOUS_MODEL_ERROR_POINTER) return 4;
  for (int turn = 0; fread(mel, 4, inputs, stdin) == inputs; turn++) {
    char *start = arena + 4 * (turn % 8); /* wherever it begins, and whatever is in it: here NaN */
    memset(arena, 0xff, bytes + 64);
    if (labous_model_run(mel, logits, start) != LABOUS_MODEL_OK) return 5;
    for (size_t i = 0; i < bytes + 64; i++)
      if ((arena + i < start || arena + i >= start + bytes) && (unsigned char)arena[i] != 0xff) return 6;
    if (fwrite(logits, 4, outputs, stdout) != outputs) return 7;
  }
  return 0;
}
