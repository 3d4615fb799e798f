// Hands out pieces of one block, each kAlignment bytes from its beginning or a multiple. With a null base it only measures.
#pragma once

#include <stdint.h>

namespace melspec {

constexpr int kAlignment = 64;  // a cache line

struct Arena {
  char *base;
  int64_t used = 0;

  template <typename T>
  T *take(int64_t count) {
    T *piece = base ? reinterpret_cast<T *>(base + used) : nullptr;
    used += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) & ~(kAlignment - 1);
    return piece;
  }
};

}  // namespace melspec
