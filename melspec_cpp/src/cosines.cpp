// The real part of a spectrum is the spectrum of the frame's even part: a cosine transform of N / 2 + 1 reals g, which
// takes half the work of a transform of the frame. Decimation in frequency, with M = N / 4:
//
//   C[2k]     is the same of the M + 1 reals g[n] + g[2M - n], which are split again, until few are left, and
//   C[2k + 1] a cosine transform of the third kind of the M reals d[n] = g[n] - g[2M - n], found by a complex transform
//             of H = M / 2 points (Makhoul 1980): v[m] = C[4m + 1], or C[4M - 4m - 1] in its second half, is the
//             transform of U[n] = e^(pi i n / 2M) (d[n] - i d[M - n]) / 2, and v[2i] + i v[2i + 1] that of
//             U[n] + U[n + H] + i e^(2 pi i n / M) (U[n] - U[n + H]), n < H, where U[n + H] is U[H - n] conjugated.
//
// That transform has the other sign: it is made of the usual one by exchanging real and imaginary parts, of what goes in
// and of what comes out. Decimation in frequency, in place, of radix 4, but for a first pass of radix 2 where one is left
// over. Lanes are frames.
#include "cosines.h"

#include "butterflies.h"
#include "cold.h"
#include "elementary.h"
#include "tensorflow.h"

namespace melspec {
namespace {

MELSPEC_COLD Cosines::Number turn_of(int n, int length) {
  Cosines::Number turn;
  unit_circle(n, length, &turn.re, &turn.im);
  return turn;
}

inline Complex times(Complex a, Cosines::Number b) {
  const Vec re = all(b.re), im = all(b.im);
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}

// Columns n ... n + kLanes - 1 of kLanes frames: a vector of neighbours each, which become a vector of frames each.
inline void turn_around(const Vec *neighbours, Vec *to) {
#if defined(__AVX2__)
  transpose(neighbours[0], neighbours[1], neighbours[2], neighbours[3], to, to + 1, to + 2, to + 3);
#elif defined(__wasm_simd128__) || defined(__SSE2__) || defined(__aarch64__)
  to[0] = firsts(neighbours[0], neighbours[1]);
  to[1] = seconds(neighbours[0], neighbours[1]);
#else
  to[0] = neighbours[0];
#endif
}

// Of as many floats as two vectors take.
inline void products(const float *x, const float *y, Vec *to) {
  const FloatsAnywhere product =
      *reinterpret_cast<const FloatsAnywhere *>(x) * *reinterpret_cast<const FloatsAnywhere *>(y);
  load_two(reinterpret_cast<const float *>(&product), to, to + 1);
}

inline Vec backwards(Vec a) {
#if defined(__AVX2__)
  return __builtin_shufflevector(a, a, 3, 2, 1, 0);
#elif defined(__wasm_simd128__) || defined(__SSE2__) || defined(__aarch64__)
  return __builtin_shufflevector(a, a, 1, 0);
#else
  return a;
#endif
}

}  // namespace

MELSPEC_COLD void Cosines::allocate(Arena &arena, int size) {
  n_fft = size;
  window = arena.take<float>(size + 1);
  turns = arena.take<Turns>(size / 8);
  twiddles = arena.take<Number>(3 * size / 16);
  last = arena.take<double>(kLast);
  order = arena.take<uint16_t>(kOrders);
}

MELSPEC_COLD void Cosines::allocate_work(Arena &arena, int size) {
  reals = arena.take<Vec>(size / 2 + 1);
  work = arena.take<Complex>(size / 8);
}

MELSPEC_COLD void Cosines::prepare() {
  for (int n = 0; n < n_fft; ++n) window[n] = hann_as_tensorflow(n, n_fft);
  window[n_fft] = 0.0f;
  Turns *turn = turns;
  for (int length = n_fft; length > kLast; length /= 2)
    for (int n = 1; n <= length / 16; ++n, ++turn) {
      const Number near = turn_of(n, length), far = turn_of(length / 8 - n, length), both = turn_of(4 * n, length);
      turn->near = {near.im / 2, -near.re / 2};
      turn->far = {far.re / 2, -far.im / 2};
      turn->both = {-both.im, both.re};
    }
  Number *to = twiddles;
  for (int length = n_fft / 8; length > 4; length /= 2)
    for (int column = 0; column < length / 4; ++column)
      for (int factor = 1; factor <= 3; ++factor) {
        *to = turn_of(column * factor, length);
        to->im = -to->im;
        ++to;
      }
  for (int n = 0; n < kLast; ++n) last[n] = turn_of(n, kLast).re;
  fill_orders(order);
}

void Cosines::real_spectra(const float *const *frames, int most, Vec *spectrum) const {
  fold(frames);
  const Turns *turn = turns;
  const Number *w = twiddles;
  int stride = 1;
  for (int length = n_fft; length > kLast; length /= 2, stride *= 2) {
    const int points = length / 8;
    split(length, turn);
    transform(points, w, stride, most, spectrum);
    turn += points / 2;
    w += 3 * points / 4;
  }
  finish(stride, spectrum);
}

// The even part, twice but for sample n_fft / 2, which has no partner; sample 0 has none either, and no weight.
void Cosines::fold(const float *const *frames) const {
  constexpr int kTogether = 2 * kLanes;
  const int half = n_fft / 2;
  for (int n = 0; n < half; n += kTogether) {
    const int behind = n_fft - n - kTogether + 1;
    Vec both[2][kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      Vec a[2], b[2];
      products(frames[lane] + n, window + n, a);
      products(frames[lane] + behind, window + behind, b);
      for (int i = 0; i < 2; ++i) both[i][lane] = a[i] + backwards(b[1 - i]);
    }
    turn_around(both[0], reals + n);
    turn_around(both[1], reals + n + kLanes);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const float middle = frames[lane][half] * window[half];
    reals[half][lane] = middle;
  }
}

// The first length / 2 + 1 reals, whose first length / 4 + 1 are then left.
void Cosines::split(int length, const Turns *turn) const {
  const int m = length / 4, h = m / 2;
  Vec *g = reals;
  const auto difference = [&](int n) {
    const Vec a = g[n], b = g[2 * m - n];
    g[n] = a + b;
    return a - b;
  };
  const Vec d0 = difference(0), dh = difference(h) * all(0x1.6a09e667f3bcdp-1);  // sqrt(1/2)
  work[0] = {d0 - dh, d0 + dh};
  for (int n = 1; 2 * n <= h; ++n, ++turn) {
    const Vec a = difference(n), b = difference(m - n);
    // in the middle the two pairs are one
    const Vec c = 2 * n < h ? difference(h - n) : a, d = 2 * n < h ? difference(h + n) : b;
    const Complex near = times(Complex{b, a}, turn->near), far = times(Complex{c, d}, turn->far);
    const Complex sum = near + far, rest = times(near - far, turn->both);
    work[h - n] = {rest.im - sum.im, sum.re - rest.re};
    work[n] = {sum.im + rest.im, sum.re + rest.re};
  }
}

// The complex transform of the first `points` of work, whose outputs belong to the odd ones of every `stride` bins; none
// need be written above bin `most`.
void Cosines::transform(int points, const Number *w, int stride, int most, Vec *spectrum) const {
  Complex *const end = work + points;
  constexpr int kPowersOf4 = 0x55555555;
  const int halves = points & kPowersOf4 ? 1 : 2;
  int length = points / halves;
  if (halves == 2) {
    const int quarter = points / 4;
    Complex *z0 = work, *z1 = z0 + quarter, *z2 = z1 + quarter, *z3 = z2 + quarter;
    for (int i = 0; i < quarter; ++i, w += 3) {
      const Complex a = z0[i], b = z1[i], c = z2[i], d = z3[i];
      z0[i] = a + c;
      z1[i] = b + d;
      z2[i] = times(a - c, w[0]);
      z3[i] = times(minus_i_times(b - d), w[0]);
    }
  }
  for (; length > 4; w += 9 * length / 8, length /= 4) {  // past the factors of this length and of half of it
    const int quarter = length / 4;
    for (Complex *block = work; block < end; block += length) {
      Complex *z0 = block, *z1 = z0 + quarter, *z2 = z1 + quarter, *z3 = z2 + quarter;
      const Number *factors = w;
      for (int i = 0; i < quarter; ++i, factors += 3) {
        const Four y = transform4(z0[i], z1[i], z2[i], z3[i]);
        z0[i] = y.y0;
        z1[i] = times(y.y1, factors[0]);
        z2[i] = times(y.y2, factors[1]);
        z3[i] = times(y.y3, factors[2]);
      }
    }
  }
  const int blocks = points / 4;
  Vec *const first = spectrum + stride, *const behind = spectrum + (8 * points - 1) * stride;
  const auto put = [](Vec *to, int step, Complex y) {
    to[0] = y.im;
    to[4 * step] = y.re;
  };
  const Complex *z = work;
  for (int half = 0; half < halves; ++half) {
    const uint16_t *k = order_of(order, blocks / halves);
    for (int block = 0; block < blocks / halves; ++block, ++k, z += 4) {
      const int at = *k / 4 * halves + half;
      // the lowest bin upwards, and the lowest downwards
      if ((8 * at + 1) * stride > most && (8 * (blocks - at) - 5) * stride > most) continue;
      const Four y = transform4(z[0], z[1], z[2], z[3]);
      const int here = 8 * at * stride, step = 8 * blocks * stride;
      put(first + here, stride, y.y0);
      put(first + here + step, stride, y.y1);
      put(behind - here - 2 * step, -stride, y.y2);
      put(behind - here - 3 * step, -stride, y.y3);
    }
  }
}

MELSPEC_COLD void Cosines::finish(int stride, Vec *spectrum) const {
  for (int k = 0; k <= kLast / 2; ++k) {
    Vec sum = reals[0];
    for (int n = 1; n <= kLast / 2; ++n) sum += reals[n] * all(last[k * n % kLast]);
    spectrum[k * stride] = sum;
  }
}

}  // namespace melspec
