// 10 log10 of two numbers at once.
#pragma once

#include "vec.h"

namespace melspec {

// For normal, positive, finite doubles; to about one unit in the last place of the logarithm, exactly 0 for 1.
inline Pair decibels(Pair power) {
  // power = 2^k m with sqrt(1/2) <= m < sqrt(2); log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.1716.
  constexpr int64_t kRootHalf = 0x3fe6a09e667f3bcd;
  constexpr int64_t kExponent = static_cast<int64_t>(0xfff0000000000000);
  PairBits bits = reinterpret_cast<PairBits>(power);
  PairBits above = bits - kRootHalf;
  Pair m = reinterpret_cast<Pair>(bits - (above & kExponent));
  // An integer added to the bits of 1.5 * 2^52 is added to its value: a conversion that every lane width has.
  constexpr int64_t kMagicBits = 0x4338000000000000;
  Pair k = reinterpret_cast<Pair>((above >> 52) + kMagicBits) - both(0x1.8p52);
  Pair s = (m - both(1.0)) / (m + both(1.0));
  Pair square = s * s, series = both(1.0 / 21);
  for (int n = 19; n >= 1; n -= 2) series = series * square + both(1.0 / n);
  constexpr double kPerOctave = 0x1.8151824c7587fp+1;  // 10 log10(2)
  constexpr double kPerNeper = 0x1.15f2ced384f29p+3;   // 20 / ln(10)
  return k * both(kPerOctave) + both(kPerNeper) * (s * series);
}

}  // namespace melspec
