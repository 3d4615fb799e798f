#include "decibels.h"

namespace melspec {
namespace {

inline Vec decibels_of(Vec power) {
  // power = 2^k m with sqrt(1/2) <= m < sqrt(2); log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.1716.
  // The exponent is biased by 1024 to stay positive: not every instruction set shifts signed 64-bit lanes.
  constexpr uint64_t kRootHalf = 0x3fe6a09e667f3bcd, kBias = 1024, kExponent = 0xfff0000000000000;
  VecBits bits = reinterpret_cast<VecBits>(power);
  VecBits above = bits - kRootHalf + (kBias << 52);
  Vec m = reinterpret_cast<Vec>(bits + (kBias << 52) - (above & kExponent));
  // An integer added to the bits of 1.5 * 2^52 is added to its value: a conversion that every lane width has.
  constexpr uint64_t kMagicBits = 0x4338000000000000;
  Vec k = reinterpret_cast<Vec>((above >> 52) + kMagicBits) - all(0x1.8p52 + kBias);
  Vec s = (m - all(1.0)) / (m + all(1.0));
  // atanh(s) / s as a polynomial in s^2, the minimax one (Remez 1934) of its degree on |s| < 0.1716.
  constexpr double kSeries[] = {0x1.0000000004a19p+0, 0x1.555554dad28d1p-2, 0x1.999a9c8d6a6a8p-3,
                                0x1.2432c0e563f3cp-3, 0x1.e3af8a1c16758p-4};
  Vec square = s * s, series = all(kSeries[4]);
  for (int n = 3; n >= 0; --n) series = series * square + all(kSeries[n]);
  constexpr double kPerOctave = 0x1.8151824c7587fp+1;  // 10 log10(2)
  constexpr double kPerNeper = 0x1.15f2ced384f29p+3;   // 20 / ln(10)
  return k * all(kPerOctave) + all(kPerNeper) * (s * series);
}

}  // namespace

void decibels(Vec *values, int count, double least, bool square) {
  for (int i = 0; i < count; ++i) {
    const Vec value = values[i];
    values[i] = decibels_of(larger(all(least), square ? value * value : value));
  }
}

}  // namespace melspec
