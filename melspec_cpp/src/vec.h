// Two frames at once: lane 0 holds one frame, lane 1 the next. Lanes never mix, so a compiler may map the pair to SIMD
// registers or to scalars without changing a bit.
#pragma once

#include <stdint.h>

namespace melspec {

typedef double Pair __attribute__((vector_size(16)));
typedef int64_t PairBits __attribute__((vector_size(16)));
typedef float FloatPair __attribute__((vector_size(8), aligned(4), may_alias));  // samples are 4-byte aligned only

inline Pair both(double value) { return Pair{value, value}; }

struct ComplexPair {
  Pair re, im;
};

}  // namespace melspec
