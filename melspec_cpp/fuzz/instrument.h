// Put in front of every file of src/ in a sanitized build: an allocation can be refused, and each piece of an arena has
// a red zone behind it, where the sanitizer would see nothing but one block.
#pragma once

#define aligned_alloc melspec_fuzz_aligned_alloc

#define Arena PlainArena
#include "arena.h"
#undef Arena

extern "C" void __asan_poison_memory_region(const volatile void *from, decltype(sizeof 0) bytes);

namespace melspec {

struct Arena : PlainArena {
  explicit Arena(char *base) : PlainArena{base} {}

  template <typename T>
  T *take(int64_t count) {
    const int64_t end = used + count * static_cast<int64_t>(sizeof(T));
    T *piece = PlainArena::take<T>(count);
    PlainArena::take<char>(kAlignment);
    if (base) __asan_poison_memory_region(base + end, static_cast<decltype(sizeof 0)>(used - end));
    return piece;
  }
};

}  // namespace melspec
