// TensorFlow folds constants with Eigen's logarithm and cosine of floats, after Cephes: operation by operation, without
// fused multiply-adds. Correctly rounded ones would differ in every tenth value.
#include "tensorflow.h"

#include <stdint.h>

#include "cold.h"

#if defined(__clang__)
#pragma clang fp contract(off)
#endif

namespace melspec {
namespace {

uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Its coefficients from the highest power down.
MELSPEC_COLD float polynomial(float x, const float *coefficients, int count) {
  float made = coefficients[0];
  for (int i = 1; i < count; ++i) made = made * x + coefficients[i];
  return made;
}

// Of a normal number above 0.
MELSPEC_COLD float log_as_eigen(float value) {
  constexpr float kSeries[3][3] = {{7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f},
                                   {-1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f},
                                   {2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f}};
  const uint32_t bits = bits_of(value), fraction = (bits & 0x7fffff) | 0x3f000000;
  int exponent = static_cast<int>(bits >> 23) - 126;
  float mantissa;  // from 1/2 to 1
  __builtin_memcpy(&mantissa, &fraction, sizeof mantissa);
  float x = mantissa - 1.0f;
  if (mantissa < 0.707106781186547524f) {
    --exponent;
    x += mantissa;
  }
  const float square = x * x, cube = square * x;
  float parts[3];
  for (int i = 0; i < 3; ++i) parts[i] = polynomial(x, kSeries[i], 3);
  const float rest = -0.5f * square + polynomial(cube, parts, 3) * cube;
  return static_cast<float>(exponent) * 0.693147180559945309f + (x + rest);
}

// Of an angle from 0 to one turn.
MELSPEC_COLD float cos_as_eigen(float angle) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: what is added to it keeps no fraction
  constexpr float kHalfPi[] = {-1.5703125f, -0.000483989715576171875f, 1.62865035235881805e-07f,
                               5.56443155441677106e-11f};
  constexpr float kCosine[] = {2.4372266125283204e-05f, -0.00138865201734006405f, 0.041666619479656219f, -0.5f, 1.0f};
  constexpr float kSine[] = {-0.00019592341140837039f, 0.0083326873655616852f, -0.16666662039822983f};
  const float shifted = angle * 0.636619746685028076171875f + kMagic;
  const uint32_t quarter = bits_of(shifted);
  float x = angle;
  for (float part : kHalfPi) x = (shifted - kMagic) * part + x;
  const float square = x * x;
  const float made = quarter & 1 ? polynomial(square, kSine, 3) * square * x + x : polynomial(square, kCosine, 5);
  return (quarter + 1) & 2 ? -made : made;
}

}  // namespace

MELSPEC_COLD float hann_as_tensorflow(int i, int length) {
  const float angle = 6.283185307179586f * static_cast<float>(i) / static_cast<float>(length);
  return 0.5f - 0.5f * cos_as_eigen(angle);
}

MELSPEC_COLD float mel_as_tensorflow(float hertz) { return 1127.0f * log_as_eigen(1.0f + hertz / 700.0f); }

MELSPEC_COLD float line_as_tensorflow(float first, float last, int i, int count) {
  return i == count - 1 ? last : first + static_cast<float>(i) * ((last - first) / static_cast<float>(count - 1));
}

}  // namespace melspec
