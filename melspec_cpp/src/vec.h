// Vectors of doubles. A lane is a column of the transform, a bin of the spectrum, or a frame; lanes never mix but where
// a permutation below says so, and a sum over them has one order: their number does not change a bit of the results.
#pragma once

#include <stdint.h>

namespace melspec {

#if defined(__AVX2__)
constexpr int kLanes = 4;
#elif defined(__wasm_simd128__) || defined(__SSE2__) || defined(__aarch64__)
constexpr int kLanes = 2;
#else
constexpr int kLanes = 1;
#endif

typedef double Vec __attribute__((vector_size(8 * kLanes)));
typedef double VecAnywhere __attribute__((vector_size(8 * kLanes), aligned(8), may_alias));
typedef uint64_t VecBits __attribute__((vector_size(8 * kLanes)));
typedef float Floats __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef float FloatsAnywhere __attribute__((vector_size(8 * kLanes), aligned(4), may_alias));  // of two vectors

inline Vec all(double value) { return value - Vec{}; }
inline Vec load(const double *from) { return *reinterpret_cast<const VecAnywhere *>(from); }
// Two vectors of floats that lie one behind the other.
inline void load_two(const float *from, Vec *a, Vec *b) {
#if defined(__wasm_simd128__)
  // At once, for a vector of two floats would come by way of a general register.
  typedef float Whole __attribute__((vector_size(16), aligned(4), may_alias));
  const Whole x = *reinterpret_cast<const Whole *>(from);
  *a = __builtin_convertvector(__builtin_shufflevector(x, x, 0, 1), Vec);
  *b = __builtin_convertvector(__builtin_shufflevector(x, x, 2, 3), Vec);
#else
  *a = __builtin_convertvector(*reinterpret_cast<const Floats *>(from), Vec);
  *b = __builtin_convertvector(*reinterpret_cast<const Floats *>(from + kLanes), Vec);
#endif
}
inline void store(double *to, Vec value) { *reinterpret_cast<VecAnywhere *>(to) = value; }
// The first `count` lanes.
inline void store_some(double *to, Vec value, int count) {
  for (int lane = 0; lane < kLanes; ++lane)
    if (lane < count) to[lane] = value[lane];
}
inline void store_some(float *to, Vec value, int count) {
  if (count == kLanes) {
    *reinterpret_cast<Floats *>(to) = __builtin_convertvector(value, Floats);
    return;
  }
  for (int lane = 0; lane < kLanes - 1; ++lane)
    if (lane < count) to[lane] = static_cast<float>(value[lane]);
}
inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }
inline double larger(double a, double b) { return a > b ? a : b; }

struct Complex {
  Vec re, im;
};

inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
inline Complex minus_i_times(Complex a) { return {a.im, -a.re}; }
inline Complex operator*(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }

struct Four {
  Complex y0, y1, y2, y3;
};

#if defined(__AVX2__)

inline void transpose(Vec a, Vec b, Vec c, Vec d, Vec *w, Vec *x, Vec *y, Vec *z) {
  Vec ab02 = __builtin_shufflevector(a, b, 0, 4, 2, 6), ab13 = __builtin_shufflevector(a, b, 1, 5, 3, 7);
  Vec cd02 = __builtin_shufflevector(c, d, 0, 4, 2, 6), cd13 = __builtin_shufflevector(c, d, 1, 5, 3, 7);
  *w = __builtin_shufflevector(ab02, cd02, 0, 1, 4, 5);
  *x = __builtin_shufflevector(ab13, cd13, 0, 1, 4, 5);
  *y = __builtin_shufflevector(ab02, cd02, 2, 3, 6, 7);
  *z = __builtin_shufflevector(ab13, cd13, 2, 3, 6, 7);
}

// Four neighbours, beginning at z, z + stride ... for each lane.
inline Four gather(const Complex *z, int stride) {
  Complex a = z[0], b = z[stride], c = z[2 * stride], d = z[3 * stride];
  Four y;
  transpose(a.re, b.re, c.re, d.re, &y.y0.re, &y.y1.re, &y.y2.re, &y.y3.re);
  transpose(a.im, b.im, c.im, d.im, &y.y0.im, &y.y1.im, &y.y2.im, &y.y3.im);
  return y;
}

// Lane l of the result: (s0 + s2) + (s1 + s3) of sums[l][0] = {s0, s1, s2, s3}.
inline Vec add_up(const Vec (*sums)[1]) {
  Vec a = sums[0][0], b = sums[1][0], c = sums[2][0], d = sums[3][0];
  Vec ab = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
  Vec cd = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);
  return __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7);
}

#elif defined(__wasm_simd128__) || defined(__SSE2__) || defined(__aarch64__)

inline Vec firsts(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 2); }
inline Vec seconds(Vec a, Vec b) { return __builtin_shufflevector(a, b, 1, 3); }
inline Complex firsts(Complex a, Complex b) { return {firsts(a.re, b.re), firsts(a.im, b.im)}; }
inline Complex seconds(Complex a, Complex b) { return {seconds(a.re, b.re), seconds(a.im, b.im)}; }

// Four neighbours, beginning at z and z + stride for the two lanes.
inline Four gather(const Complex *z, int stride) {
  Complex a = z[0], b = z[stride], c = z[1], d = z[stride + 1];
  return {firsts(a, b), seconds(a, b), firsts(c, d), seconds(c, d)};
}

// Lane l of the result: (s0 + s2) + (s1 + s3) of sums[l] = {s0, s1}, {s2, s3}.
inline Vec add_up(const Vec (*sums)[2]) {
  Vec a = sums[0][0] + sums[0][1], b = sums[1][0] + sums[1][1];
  return firsts(a, b) + seconds(a, b);
}

#else

inline Four gather(const Complex *z, int) { return {z[0], z[1], z[2], z[3]}; }
inline Vec add_up(const Vec (*sums)[4]) { return (sums[0][0] + sums[0][2]) + (sums[0][1] + sums[0][3]); }

#endif

}  // namespace melspec
