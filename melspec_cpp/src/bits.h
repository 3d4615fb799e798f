// Doubles as bits.
#pragma once

#include <stdint.h>

namespace melspec {

inline double from_bits(uint64_t bits) {
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline bool finite(double value) { return value - value == 0.0; }  // infinity less itself is NaN

}  // namespace melspec
