// Doubles as bits.
#pragma once

#include <stdint.h>

namespace melspec {

inline uint64_t to_bits(double value) {
  uint64_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline double from_bits(uint64_t bits) {
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline bool finite(double value) { return (to_bits(value) >> 52 & 0x7ff) != 0x7ff; }

}  // namespace melspec
