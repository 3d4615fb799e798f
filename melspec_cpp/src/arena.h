// Hands out pieces of one block, each 16-byte aligned. With a null base it only measures.
#pragma once

#include <stdint.h>

namespace melspec {

struct Arena {
  char *base;
  int32_t used = 0;

  template <typename T>
  T *take(int count) {
    T *piece = base ? reinterpret_cast<T *>(base + used) : nullptr;
    used += (count * static_cast<int32_t>(sizeof(T)) + 15) & ~15;
    return piece;
  }
};

}  // namespace melspec
