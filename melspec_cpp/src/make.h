// How the handles of the ABI come into being: measured, allocated in one block, laid out, prepared.
#pragma once

#include "arena.h"
#include "memory.h"

namespace melspec {

// Checks a host's `config`, and writes the address of what is made of it to *to, or null with a code. Part of the function that calls it, and as cold.
template <typename Made, typename Config>
inline __attribute__((always_inline)) int32_t make(const Config *config, Made **to) {
  if (!accessible(to, sizeof *to, alignof(Made *))) return MELSPEC_ERROR_POINTER;
  *to = nullptr;
  if (!accessible(config, sizeof *config, alignof(Config))) return MELSPEC_ERROR_POINTER;
  int32_t code = check(*config);
  if (code != MELSPEC_OK) return code;

  Made sizes;
  Arena measure{nullptr};
  measure.take<Made>(1);
  sizes.allocate(measure, *config);

  char *memory = static_cast<char *>(allocate(measure.used));
  if (!memory) return MELSPEC_ERROR_MEMORY;
  Arena arena{memory};
  Made *made = arena.take<Made>(1);
  made->allocate(arena, *config);
  code = made->prepare();
  if (code == MELSPEC_OK)
    *to = made;
  else
    release(memory);
  return code;
}

}  // namespace melspec
