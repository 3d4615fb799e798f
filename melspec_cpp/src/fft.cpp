// Radix-4 decimation in frequency, in place (Cooley & Tukey 1965; the layout of the passes as in any textbook): a pass
// splits each block of `length` into quarters. The last pass is a transform of 4 or of 8, whichever is left over.
// The outputs come out in digit-reversed order, which is undone while the real spectrum is put together.
#include "fft.h"

#include "elementary.h"

namespace melspec {
namespace {

ComplexPair operator+(ComplexPair a, ComplexPair b) { return {a.re + b.re, a.im + b.im}; }
ComplexPair operator-(ComplexPair a, ComplexPair b) { return {a.re - b.re, a.im - b.im}; }
ComplexPair minus_i_times(ComplexPair a) { return {a.im, -a.re}; }

ComplexPair times(ComplexPair a, const double *w) {
  Pair re = both(w[0]), im = both(w[1]);
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}

struct Four {
  ComplexPair y0, y1, y2, y3;
};

inline Four transform4(ComplexPair a, ComplexPair b, ComplexPair c, ComplexPair d) {
  ComplexPair even = a + c, odd = a - c, sum = b + d, turned = minus_i_times(b - d);
  return {even + sum, odd + turned, even - sum, odd - turned};
}

// One column of a radix-4 pass: z, z + quarter, ... hold the results.
inline void butterfly(ComplexPair *z, int quarter, const double *w, ComplexPair a, ComplexPair b, ComplexPair c,
                      ComplexPair d) {
  Four y = transform4(a, b, c, d);
  z[0] = y.y0;
  z[quarter] = times(y.y1, w);
  z[2 * quarter] = times(y.y2, w + 2);
  z[3 * quarter] = times(y.y3, w + 4);
}

// Two neighbouring samples of each frame, windowed: the even one is the real part, the odd one the imaginary.
inline ComplexPair load(const float *first, const float *second, const double *window, int i) {
  Pair a = __builtin_convertvector(*reinterpret_cast<const FloatPair *>(first + 2 * i), Pair);
  Pair b = __builtin_convertvector(*reinterpret_cast<const FloatPair *>(second + 2 * i), Pair);
  return {__builtin_shufflevector(a, b, 0, 2) * both(window[2 * i]),
          __builtin_shufflevector(a, b, 1, 3) * both(window[2 * i + 1])};
}

void last_pass4(ComplexPair *z, int points) {
  for (int i = 0; i < points; i += 4) {
    Four y = transform4(z[i], z[i + 1], z[i + 2], z[i + 3]);
    z[i] = y.y0;
    z[i + 1] = y.y1;
    z[i + 2] = y.y2;
    z[i + 3] = y.y3;
  }
}

void last_pass8(ComplexPair *z, int points) {
  const Pair half_root = both(0x1.6a09e667f3bcdp-1);  // sqrt(1/2)
  for (ComplexPair *x = z; x < z + points; x += 8) {
    Four even = transform4(x[0], x[2], x[4], x[6]);
    Four odd = transform4(x[1], x[3], x[5], x[7]);
    ComplexPair o1 = {(odd.y1.re + odd.y1.im) * half_root, (odd.y1.im - odd.y1.re) * half_root};
    ComplexPair o2 = minus_i_times(odd.y2);
    ComplexPair o3 = {(odd.y3.im - odd.y3.re) * half_root, -((odd.y3.re + odd.y3.im) * half_root)};
    x[0] = even.y0 + odd.y0;
    x[1] = even.y1 + o1;
    x[2] = even.y2 + o2;
    x[3] = even.y3 + o3;
    x[4] = even.y0 - odd.y0;
    x[5] = even.y1 - o1;
    x[6] = even.y2 - o2;
    x[7] = even.y3 - o3;
  }
}

}  // namespace

void Fft::allocate(Arena &arena, int n_fft) {
  points = n_fft / 2;
  int factors = 0;
  for (int length = points; length > 8; length /= 4) factors += 6 * (length / 4);
  twiddles = arena.take<double>(factors);
  post = arena.take<double>(2 * (points / 2 + 1));
  position = arena.take<uint16_t>(points);
  work = arena.take<ComplexPair>(points);
}

void Fft::prepare() {
  double *w = twiddles;
  for (int length = points; length > 8; length /= 4)
    for (int column = 0; column < length / 4; ++column)
      for (int factor = 1; factor <= 3; ++factor, w += 2) {
        unit_circle(column * factor, length, w, w + 1);
        w[1] = -w[1];
      }
  for (int k = 0; k <= points / 2; ++k) unit_circle(k, 2 * points, post + 2 * k, post + 2 * k + 1);
  for (int k = 0; k < points; ++k) {
    int place = 0, rest = k, length = points;
    for (; length > 8; length /= 4, rest /= 4) place += rest % 4 * (length / 4);
    position[k] = static_cast<uint16_t>(place + rest);
  }
}

void Fft::power_spectrum(const float *first, const float *second, const double *window, Pair *power) const {
  ComplexPair *z = work;
  const double *w = twiddles;
  int quarter = points / 4;
  for (int i = 0; i < quarter; ++i, w += 6)
    butterfly(z + i, quarter, w, load(first, second, window, i), load(first, second, window, i + quarter),
              load(first, second, window, i + 2 * quarter), load(first, second, window, i + 3 * quarter));

  int length = quarter;
  for (; length > 8; length /= 4) {
    quarter = length / 4;
    for (ComplexPair *block = z; block < z + points; block += length)
      for (int i = 0; i < quarter; ++i) {
        ComplexPair *x = block + i;
        butterfly(x, quarter, w + 6 * i, x[0], x[quarter], x[2 * quarter], x[3 * quarter]);
      }
    w += 6 * quarter;
  }
  if (length == 8)
    last_pass8(z, points);
  else
    last_pass4(z, points);

  // X[k] = E - i W^k O with E, O the spectra of even and odd samples (the window carries the 1/2 of their definition).
  ComplexPair zero = z[0];
  Pair dc = zero.re + zero.im, nyquist = zero.re - zero.im;
  power[0] = both(4.0) * (dc * dc);
  power[points] = both(4.0) * (nyquist * nyquist);
  for (int k = 1; k <= points / 2; ++k) {
    ComplexPair a = z[position[k]], b = z[position[points - k]];
    Pair c = both(post[2 * k]), s = both(post[2 * k + 1]);
    Pair even_re = a.re + b.re, even_im = a.im - b.im, odd_re = a.re - b.re, odd_im = a.im + b.im;
    Pair turned_re = c * odd_im - s * odd_re, turned_im = -(c * odd_re + s * odd_im);
    Pair up_re = even_re + turned_re, up_im = even_im + turned_im;
    Pair down_re = even_re - turned_re, down_im = even_im - turned_im;
    power[k] = up_re * up_re + up_im * up_im;
    power[points - k] = down_re * down_re + down_im * down_im;
  }
}

}  // namespace melspec
