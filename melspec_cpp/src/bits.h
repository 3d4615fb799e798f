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

inline bool finite(double value) { return value - value == 0.0; }  // infinity less itself is NaN

}  // namespace melspec
