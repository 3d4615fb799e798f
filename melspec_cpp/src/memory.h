// Memory: its own allocator in WebAssembly, the C library's natively.
#pragma once

#include <stdint.h>

namespace melspec {

void *allocate(int64_t bytes);  // kAlignment-byte aligned, in WebAssembly 16, or null
void release(void *memory);     // null is allowed

inline void copy(void *to, const void *from, int64_t bytes) {
  __builtin_memmove(to, from, static_cast<decltype(sizeof 0)>(bytes));
}

// Whether [pointer, pointer + bytes) may be read or written, as far as can be known here: not null, aligned, and in
// WebAssembly inside the memory.
bool accessible(const void *pointer, int64_t bytes, int alignment);

inline bool overlap(const void *a, int64_t a_bytes, const void *b, int64_t b_bytes) {
  const char *x = static_cast<const char *>(a), *y = static_cast<const char *>(b);
  return x < y + b_bytes && y < x + a_bytes;
}

}  // namespace melspec
