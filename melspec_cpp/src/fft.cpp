// Radix-4 decimation in frequency, in place (Cooley & Tukey 1965): a pass splits each block of `length` points into
// quarters, whose outputs are every fourth. Lanes are neighbouring columns. The last pass, a transform of 4 or of 8
// points, whichever is left over, takes its lanes from neighbouring quarters of the whole, which are neighbours in the
// output: it leaves the passes' digit-reversed order for the natural one. Then the real spectrum is put together.
#include "fft.h"

#include "cold.h"
#include "elementary.h"
#include "window.h"

namespace melspec {
namespace {

inline Four transform4(Complex a, Complex b, Complex c, Complex d) {
  Complex even = a + c, odd = a - c, sum = b + d, turned = minus_i_times(b - d);
  return {even + sum, odd + turned, even - sum, odd - turned};
}

// One vector of columns of a radix-4 pass, from a, b, c, d to the same column of the four quarters.
inline void butterfly(Complex *z0, Complex *z1, Complex *z2, Complex *z3, const Complex *w, Complex a, Complex b,
                      Complex c, Complex d) {
  Four y = transform4(a, b, c, d);
  *z0 = y.y0;
  *z1 = y.y1 * w[0];
  *z2 = y.y2 * w[1];
  *z3 = y.y3 * w[2];
}

inline Complex windowed(const float *samples, Complex window) {
  Complex x = load_pairs(samples);
  return {x.re * window.re, x.im * window.im};
}

// Points left for the last pass.
MELSPEC_COLD int last_length(int points) {
  while (points > 8) points /= 4;
  return points;
}

// The three factors e^(-2 pi i column factor / length) of kLanes columns.
MELSPEC_COLD void set_twiddles(Complex *w, int column, int length) {
  for (int factor = 1; factor <= 3; ++factor, ++w)
    for (int lane = 0; lane < kLanes; ++lane) {
      double cosine, sine;
      unit_circle((column + lane) * factor, length, &cosine, &sine);
      w->re[lane] = cosine;
      w->im[lane] = -sine;
    }
}

}  // namespace

MELSPEC_COLD void Fft::allocate(Arena &arena, int n_fft) {
  points = n_fft / 2;
  quarter = points / 4 / kLanes;
  int factors = 0;
  for (int length = points / 4; length > 8; length /= 4) factors += 3 * (length / 4);
  first = arena.take<First>(quarter);
  twiddles = arena.take<Complex>(factors / kLanes);
  work = arena.take<Complex>(points / kLanes);
  re = arena.take<double>(points + 1);
  im = arena.take<double>(points + 1);
  cosine = arena.take<double>(points / 2);
  sine = arena.take<double>(points / 2);
  order = arena.take<uint16_t>(points / 4 / last_length(points));
}

MELSPEC_COLD void Fft::prepare(int win_length) {
  double *analysis_window = reinterpret_cast<double *>(work);
  hann_window(win_length, 2 * points, analysis_window);
  for (int i = 0; i < points; ++i) {
    Complex &window = first[i / kLanes % quarter].window[i / kLanes / quarter];
    window.re[i % kLanes] = 0.5 * analysis_window[2 * i];
    window.im[i % kLanes] = 0.5 * analysis_window[2 * i + 1];
  }
  for (int i = 0; i < quarter; ++i) set_twiddles(first[i].twiddles, i * kLanes, points);
  Complex *w = twiddles;
  for (int length = points / 4; length > 8; length /= 4)
    for (int column = 0; column < length / 4; column += kLanes, w += 3) set_twiddles(w, column, length);
  for (int k = 0; k < points / 2; ++k) unit_circle(k, 2 * points, cosine + k, sine + k);
  int last = last_length(points);
  for (int block = 0; block < points / 4 / last; ++block) {
    int k = 0, weight = 4, rest = block * last;
    for (int length = points / 4; length > 8; length /= 4, weight *= 4) {
      k += rest / (length / 4) * weight;
      rest %= length / 4;
    }
    order[block] = static_cast<uint16_t>(k);
  }
}

MELSPEC_COLD double Fft::window_at(int i) const {
  const int column = i / 2 / kLanes, lane = i / 2 % kLanes;
  const Complex &half = first[column % quarter].window[column / quarter];
  return 2.0 * (i % 2 ? half.im : half.re)[lane];
}

void Fft::power_spectrum(const float *frame, double *power) const {
  first_pass(frame);
  middle_passes();
  if (last_length(points) == 8)
    last_pass8();
  else
    last_pass4();
  split(power);
}

void Fft::first_pass(const float *frame) const {
  const int q = quarter, step = points / 2;  // samples in a quarter
  const float *x0 = frame, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
  Complex *z0 = work, *z1 = z0 + q, *z2 = z1 + q, *z3 = z2 + q;
  const First *f = first;
  for (int i = 0; i < q; ++i, ++f) {
    const int at = 2 * kLanes * i;
    butterfly(z0 + i, z1 + i, z2 + i, z3 + i, f->twiddles, windowed(x0 + at, f->window[0]),
              windowed(x1 + at, f->window[1]), windowed(x2 + at, f->window[2]), windowed(x3 + at, f->window[3]));
  }
}

void Fft::middle_passes() const {
  const Complex *factors = twiddles, *end = work + 4 * quarter;
  for (int length = quarter; length * kLanes > 8; length /= 4) {
    const int q = length / 4;
    for (Complex *block = work; block < end; block += length) {
      Complex *z0 = block, *z1 = z0 + q, *z2 = z1 + q, *z3 = z2 + q;
      const Complex *w = factors;
      for (int i = 0; i < q; ++i, w += 3)
        butterfly(z0 + i, z1 + i, z2 + i, z3 + i, w, z0[i], z1[i], z2[i], z3[i]);
    }
    factors += 3 * q;
  }
}

inline void Fft::put(int k, Complex value) const {
  store(re + k, value.re);
  store(im + k, value.im);
}

void Fft::last_pass4() const {
  for (int lane = 0; lane < 4; lane += kLanes) {
    const Complex *z = work + lane * quarter, *end = z + quarter;
    for (const uint16_t *k = order; z < end; z += 4 / kLanes, ++k) {
      Four x = gather(z, quarter);
      Four y = transform4(x.y0, x.y1, x.y2, x.y3);
      const int at = *k + lane, step = points / 4;
      put(at, y.y0);
      put(at + step, y.y1);
      put(at + 2 * step, y.y2);
      put(at + 3 * step, y.y3);
    }
  }
}

void Fft::last_pass8() const {
  const Vec half_root = all(0x1.6a09e667f3bcdp-1);  // sqrt(1/2)
  for (int lane = 0; lane < 4; lane += kLanes) {
    const Complex *z = work + lane * quarter, *end = z + quarter;
    for (const uint16_t *k = order; z < end; z += 8 / kLanes, ++k) {
      Four x = gather(z, quarter), y = gather(z + 4 / kLanes, quarter);
      Four even = transform4(x.y0, x.y2, y.y0, y.y2);
      Four odd = transform4(x.y1, x.y3, y.y1, y.y3);
      Complex o1 = {(odd.y1.re + odd.y1.im) * half_root, (odd.y1.im - odd.y1.re) * half_root};
      Complex o2 = minus_i_times(odd.y2);
      Complex o3 = {(odd.y3.im - odd.y3.re) * half_root, -((odd.y3.re + odd.y3.im) * half_root)};
      const int at = *k + lane, step = points / 8;
      put(at, even.y0 + odd.y0);
      put(at + step, even.y1 + o1);
      put(at + 2 * step, even.y2 + o2);
      put(at + 3 * step, even.y3 + o3);
      put(at + 4 * step, even.y0 - odd.y0);
      put(at + 5 * step, even.y1 - o1);
      put(at + 6 * step, even.y2 - o2);
      put(at + 7 * step, even.y3 - o3);
    }
  }
}

// X[k] = E - i W^k O with E, O the spectra of even and odd samples (the window carries the 1/2 of their definition).
void Fft::split(double *power) const {
  const int n = points;
  re[n] = re[0];
  im[n] = im[0];
  for (int k = 0; k < n / 2; k += kLanes) {
    const int mirror = n - k - kLanes + 1;
    Complex a = {load(re + k), load(im + k)}, b = {reversed(load(re + mirror)), reversed(load(im + mirror))};
    Vec c = load(cosine + k), s = load(sine + k);
    Vec even_re = a.re + b.re, even_im = a.im - b.im, odd_re = a.re - b.re, odd_im = a.im + b.im;
    Vec turned_re = c * odd_im - s * odd_re, turned_im = c * odd_re + s * odd_im;
    Vec up_re = even_re + turned_re, up_im = even_im - turned_im;
    Vec down_re = even_re - turned_re, down_im = even_im + turned_im;
    store(power + k, up_re * up_re + up_im * up_im);
    store(power + mirror, reversed(down_re * down_re + down_im * down_im));
  }
  power[n / 2] = 4.0 * (re[n / 2] * re[n / 2] + im[n / 2] * im[n / 2]);
}

}  // namespace melspec
