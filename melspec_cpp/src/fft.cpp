// The real input is split by decimation in frequency as in the split-radix transform (Duhamel & Hollmann 1984; Sorensen
// et al. 1987, for real data): of M real samples x, in quarters x0 ... x3,
//
//   X[4k + 1] is the complex transform of ((x0 - x2) - i (x1 - x3))[n] e^(-2 pi i n / M), n < M / 4,
//   X[4k + 3] its mirror image, for a real input's spectrum is symmetric, and
//   X[2k]     the transform of the M / 2 reals x0 + x2, x1 + x3, which are split again, until few are left.
//
// That takes a sixth fewer additions than one complex transform of half the length, and additions are the limit.
// The complex transforms are radix-4 decimation in frequency, in place (Cooley & Tukey 1965). Lanes are neighbouring
// columns; the last pass, of 4 or of 8 points, whichever is left over, takes its lanes from neighbouring quarters of the
// whole, which are neighbours in the output.
#include "fft.h"

#include "butterflies.h"
#include "cold.h"
#include "elementary.h"
#include "window.h"

namespace melspec {
namespace {

inline void transform8(Complex *x) {
  const Vec half_root = all(0x1.6a09e667f3bcdp-1);  // sqrt(1/2)
  Four even = transform4(x[0], x[2], x[4], x[6]), odd = transform4(x[1], x[3], x[5], x[7]);
  Complex o1 = {(odd.y1.re + odd.y1.im) * half_root, (odd.y1.im - odd.y1.re) * half_root};
  Complex o2 = minus_i_times(odd.y2);
  Complex o3 = {(odd.y3.im - odd.y3.re) * half_root, -((odd.y3.re + odd.y3.im) * half_root)};
  x[0] = even.y0 + odd.y0;
  x[1] = even.y1 + o1;
  x[2] = even.y2 + o2;
  x[3] = even.y3 + o3;
  x[4] = even.y0 - odd.y0;
  x[5] = even.y1 - o1;
  x[6] = even.y2 - o2;
  x[7] = even.y3 - o3;
}

inline Vec power_of(Complex x) { return x.re * x.re + x.im * x.im; }

// The lanes of a vector, `step` apart.
inline void scatter(double *to, int step, Vec value) {
  for (int lane = 0; lane < kLanes; ++lane) to[lane * step] = value[lane];
}

// The lanes of a vector to as many spectra.
__attribute__((noinline)) void put(double *const *power, int bin, Vec value) {
  for (int lane = 0; lane < kLanes; ++lane) power[lane][bin] = value[lane];
}

// One split: the sums to s0 and s1, the rest for the complex transform.
inline Complex halve(Vec x0, Vec x1, Vec x2, Vec x3, Complex turn, Vec *s0, Vec *s1) {
  *s0 = x0 + x2;
  *s1 = x1 + x3;
  return Complex{x0 - x2, x3 - x1} * turn;
}

// e^(-2 pi i (n + lane) factor / length).
MELSPEC_COLD Complex turn_of(int n, int factor, int length) {
  Complex turn;
  for (int lane = 0; lane < kLanes; ++lane) {
    double cosine, sine;
    unit_circle((n + lane) * factor, length, &cosine, &sine);
    turn.re[lane] = cosine;
    turn.im[lane] = -sine;
  }
  return turn;
}

}  // namespace

MELSPEC_COLD void Fft::allocate(Arena &arena, int size) {
  n_fft = size;
  windowed = arena.take<Windowed>(size / 4 / kLanes);
  turns = arena.take<Complex>(size / 4 / kLanes);
  twiddles = arena.take<Complex>(3 * size / 8 / kLanes);
  reals = arena.take<double>(size / 2);
  work = arena.take<Complex>(size / 4 / kLanes);
  rest = arena.take<Vec>(kRest);
  rest_turns = arena.take<Complex>(kRest / 2);
  order = arena.take<uint16_t>(kOrders);
}

MELSPEC_COLD void Fft::prepare(int win_length) {
  const int quarter = n_fft / 4;
  for (int n = 0; n < quarter; n += kLanes) {
    Windowed &to = windowed[n / kLanes];
    to.turn = turn_of(n, 1, n_fft);
    for (int part = 0; part < 4; ++part)
      for (int lane = 0; lane < kLanes; ++lane)
        to.window[part][lane] = hann(part * quarter + n + lane, win_length, n_fft);
  }
  Complex *to = turns;
  for (int length = n_fft / 2; length > kRest; length /= 2)
    for (int n = 0; n < length / 4; n += kLanes) *to++ = turn_of(n, 1, length);
  to = twiddles;
  for (int length = n_fft / 4; length > 8; length /= 2)
    for (int column = 0; column < length / 4; column += kLanes)
      for (int factor = 1; factor <= 3; ++factor) *to++ = turn_of(column, factor, length);
  for (int n = 0; n < kRest / 2; ++n) {
    const Complex turn = turn_of(n, 1, kRest);
    rest_turns[n] = {all(turn.re[0]), all(turn.im[0])};
  }
  fill_orders(order);
}

double Fft::window_at(int i) const {
  const int n = i % (n_fft / 4);
  return windowed[n / kLanes].window[i / (n_fft / 4)][n % kLanes];
}

void Fft::power_spectra(const float *const *frames, int count, double *const *power) const {
  for (int lane = 0; lane < count; ++lane) {
    split_windowed(frames[lane]);
    const Complex *turn = turns, *w = twiddles;
    transform(n_fft / 4, w, power[lane], 1);
    for (int length = n_fft / 2; length > kRest; length /= 2) {
      split(length, turn);
      turn += length / 4 / kLanes;
      w += 3 * length / 8 / kLanes;  // past those of twice these points
      transform(length / 4, w, power[lane], n_fft / length);
    }
    for (int i = 0; i < kRest; ++i) rest[i][lane] = reals[i];
  }
  finish(power);
}

void Fft::split_windowed(const float *frame) const {
  const int quarter = n_fft / 4;
  double *s0 = reals, *s1 = s0 + quarter;
  const Windowed *by = windowed;
  Complex *z = work;
  for (const float *end = frame + quarter; frame < end; frame += 2 * kLanes, by += 2, z += 2) {
    Vec x[4][2], a, b;
    for (int part = 0; part < 4; ++part) load_two(frame + part * quarter, &x[part][0], &x[part][1]);
    for (int i = 0; i < 2; ++i, s0 += kLanes, s1 += kLanes) {
      z[i] = halve(x[0][i] * by[i].window[0], x[1][i] * by[i].window[1], x[2][i] * by[i].window[2],
                   x[3][i] * by[i].window[3], by[i].turn, &a, &b);
      store(s0, a);
      store(s1, b);
    }
  }
}

// The first `length` reals, whose first half is then left.
void Fft::split(int length, const Complex *turn) const {
  const int quarter = length / 4;
  double *x0 = reals, *x1 = x0 + quarter, *x2 = x1 + quarter, *x3 = x2 + quarter;
  Complex *z = work;
  for (int n = 0; n < quarter; n += kLanes, ++turn, ++z) {
    Vec a, b;
    *z = halve(load(x0 + n), load(x1 + n), load(x2 + n), load(x3 + n), *turn, &a, &b);
    store(x0 + n, a);
    store(x1 + n, b);
  }
}

// The complex transform of the first `points` of work; its output k to power[(4 k + 1) bins], or to the mirror image.
void Fft::transform(int points, const Complex *w, double *power, int bins) const {
  const Complex *end = work + points / kLanes;
  int length = points;
  for (; length > 8; w += 9 * length / 8 / kLanes, length /= 4) {  // past the factors of this length and of half of it
    const int quarter = length / 4 / kLanes;
    for (Complex *block = work; block < end; block += 4 * quarter) {
      Complex *z0 = block, *z1 = z0 + quarter, *z2 = z1 + quarter, *z3 = z2 + quarter;
      const Complex *factors = w;
      for (int i = 0; i < quarter; ++i, factors += 3) {
        Four y = transform4(z0[i], z1[i], z2[i], z3[i]);
        z0[i] = y.y0;
        z1[i] = y.y1 * factors[0];
        z2[i] = y.y2 * factors[1];
        z3[i] = y.y3 * factors[2];
      }
    }
  }
  const uint16_t *blocks = order_of(order, points / 4 / length);
  if (length == 4)
    last_pass4(points, blocks, power + bins, bins);
  else
    last_pass8(points, blocks, power + bins, bins);
}

// Of a block's outputs, `stride` apart in the power, the first half lies upwards from `up`, the mirror images of the
// others downwards from `down`; lanes are `step` apart.
void Fft::last_pass4(int points, const uint16_t *k, double *first, int bins) const {
  const int quarter = points / 4 / kLanes, step = 4 * bins, stride = bins * points;
  double *const last = first + step * points - 2 * bins;
  const Complex *z = work;
  for (int lane = 0; lane < 4; lane += kLanes, z += (kLanes - 1) * quarter, k -= points / 16)
    for (const Complex *end = z + quarter; z < end; z += 4 / kLanes, ++k) {
      const int at = step * (*k + lane);
      double *up = first + at, *down = last - at - 2 * stride;
      Four x = gather(z, quarter);
      Four y = transform4(x.y0, x.y1, x.y2, x.y3);
      scatter(up, step, power_of(y.y0));
      scatter(up + stride, step, power_of(y.y1));
      scatter(down, -step, power_of(y.y2));
      scatter(down - stride, -step, power_of(y.y3));
    }
}

void Fft::last_pass8(int points, const uint16_t *k, double *first, int bins) const {
  const int quarter = points / 4 / kLanes, step = 4 * bins, stride = bins * points / 2;
  double *const last = first + step * points - 2 * bins;
  const Complex *z = work;
  for (int lane = 0; lane < 4; lane += kLanes, z += (kLanes - 1) * quarter, k -= points / 32)
    for (const Complex *end = z + quarter; z < end; z += 8 / kLanes, ++k) {
      const int at = step * (*k + lane);
      double *up = first + at, *down = last - at - 4 * stride;
      Four a = gather(z, quarter), b = gather(z + 4 / kLanes, quarter);
      Complex x[8] = {a.y0, a.y1, a.y2, a.y3, b.y0, b.y1, b.y2, b.y3};
      transform8(x);
      for (int i = 0; i < 4; ++i, up += stride, down -= stride) {
        scatter(up, step, power_of(x[i]));
        scatter(down, -step, power_of(x[4 + i]));
      }
    }
}

// The splits of the last reals, of kLanes frames at once. So little is left that the shortest code will do: radix 2.
MELSPEC_COLD void Fft::finish(double *const *power) const {
  Vec *x = rest;
  Complex z[kRest / 4];
  for (int length = kRest; length > 4; length /= 2) {
    const int quarter = length / 4;
    for (int n = 0; n < quarter; ++n)
      z[n] = halve(x[n], x[n + quarter], x[n + 2 * quarter], x[n + 3 * quarter], rest_turns[n * (kRest / length)], x + n,
                   x + n + quarter);
    for (int half = quarter / 2; half > 0; half /= 2)
      for (int n = 0; n < quarter; ++n) {
        if (n & half) continue;
        const Complex a = z[n], b = z[n + half];
        z[n] = a + b;
        z[n + half] = (a - b) * rest_turns[n % half * (kRest / 2 / half)];
      }
    for (int n = 0; n < quarter; ++n) {
      int k = 0;  // n with its bits in reverse
      for (int bit = 1; bit < quarter; bit *= 2) k = 2 * k + (n & bit ? 1 : 0);
      put(power, n_fft / length * (k < quarter / 2 ? 4 * k + 1 : length - 4 * k - 1), power_of(z[n]));
    }
  }
  const Vec even = x[0] + x[2], odd = x[1] + x[3];
  put(power, 0, (even + odd) * (even + odd));
  put(power, n_fft / 2, (even - odd) * (even - odd));
  put(power, n_fft / 4, power_of({x[0] - x[2], x[3] - x[1]}));
}

}  // namespace melspec
