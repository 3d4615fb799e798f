#include "finite.h"

namespace melspec {

int32_t first_not_finite(const float *samples, int32_t n) {
  typedef uint32_t Bits __attribute__((may_alias));
  typedef uint32_t Many __attribute__((vector_size(64), aligned(4), may_alias));
  constexpr uint32_t kExponent = 0x7f800000;
  constexpr int32_t kMany = 16;
  const Bits *bits = reinterpret_cast<const Bits *>(samples);
  int32_t i = 0;
  // Most of the way without a branch: the largest exponent of each lane.
  while (n - i >= kMany) {
    const int32_t end = i + (n - i < 4096 ? (n - i) / kMany * kMany : 4096);
    Many most = {};
    for (int32_t at = i; at < end; at += kMany) {
      const Many exponents = *reinterpret_cast<const Many *>(bits + at) & kExponent;
      most = exponents > most ? exponents : most;
    }
    bool found = false;
    for (int32_t lane = 0; lane < kMany; ++lane) found |= most[lane] == kExponent;
    if (found) break;
    i = end;
  }
  for (; i < n; ++i)
    if ((bits[i] & kExponent) == kExponent) return i;
  return -1;
}

}  // namespace melspec
