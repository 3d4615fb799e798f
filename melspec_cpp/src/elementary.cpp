#include "elementary.h"

#include "cold.h"
#include "decibels.h"
#include "bits.h"

namespace melspec {
namespace {

// A number as the unevaluated sum of two doubles (Dekker 1971, "A floating-point technique for extending the available
// precision"): about 106 bits.
struct Double2 {
  double high, low;
};

Double2 quick_two_sum(double a, double b) {
  double sum = a + b;
  return {sum, b - (sum - a)};
}

Double2 two_sum(double a, double b) {
  double sum = a + b;
  double rest = sum - a;
  return {sum, (a - (sum - rest)) + (b - rest)};
}

Double2 two_product(double a, double b) {
  constexpr double kSplit = 134217729.0;  // 2^27 + 1
  double ta = kSplit * a, tb = kSplit * b;
  double ah = ta - (ta - a), bh = tb - (tb - b);
  double al = a - ah, bl = b - bh;
  double product = a * b;
  return {product, ((ah * bh - product) + ah * bl + al * bh) + al * bl};
}

MELSPEC_COLD Double2 multiply(Double2 a, Double2 b) {
  Double2 product = two_product(a.high, b.high);
  return quick_two_sum(product.high, product.low + (a.high * b.low + a.low * b.high));
}

Double2 add(Double2 a, double b) {
  Double2 sum = two_sum(a.high, b);
  return quick_two_sum(sum.high, sum.low + a.low);
}

Double2 divide(Double2 a, double b) {
  double quotient = a.high / b;
  Double2 product = two_product(quotient, b);
  double rest = ((a.high - product.high) - product.low) + a.low;
  return quick_two_sum(quotient, rest / b);
}

constexpr Double2 kLn2 = {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};
constexpr Double2 kLn10 = {0x1.26bb1bbb55516p+1, -0x1.f48ad494ea3e9p-53};

// e^x as a Taylor series on |r| <= ln(2) / 2, x = k ln 2 + r; for |x| < 700.
MELSPEC_COLD Double2 exp2x(Double2 x) {
  int k = static_cast<int>(x.high / kLn2.high + (x.high < 0 ? -0.5 : 0.5));
  Double2 whole = multiply(kLn2, {static_cast<double>(k), 0.0});
  Double2 r = add(add(x, -whole.high), -whole.low);
  Double2 sum = {1.0, 0.0};
  for (int n = 24; n >= 1; --n) sum = add(divide(multiply(sum, r), n), 1.0);
  double power = from_bits(static_cast<uint64_t>(1023 + k) << 52);
  return {sum.high * power, sum.low * power};
}

// One Newton step in extended precision from a rough logarithm: y + x e^-y - 1, whose error is the square of y's.
MELSPEC_COLD Double2 log2x(double x) {
  Vec rough = all(x);
  decibels(&rough, 1, 0x1p-1022, false);
  const double y = rough[0] * (kLn10.high / 10.0);
  Double2 correction = add(multiply(exp2x({-y, 0.0}), {x, 0.0}), -1.0);
  return add(correction, y);
}

double rounded(Double2 x) { return x.high + x.low; }

}  // namespace

MELSPEC_COLD void unit_circle(int k, int n, double *cosine, double *sine) {
  // 4k = quadrant * n + rest: the angle is quadrant * pi/2 + (pi/2) * rest / n, folded once more about pi/4.
  int64_t scaled = 4 * static_cast<int64_t>(k);
  int quadrant = static_cast<int>(scaled / n);
  int64_t rest = scaled % n;
  bool folded = 2 * rest > n;
  if (folded) rest = n - rest;
  double x = 0x1.921fb54442d18p+0 * (static_cast<double>(rest) / n), square = x * x;
  double c = 1.0, s = 1.0;
  for (int i = 20; i >= 2; i -= 2) {
    c = 1.0 - square * c / ((i - 1) * i);
    s = 1.0 - square * s / (i * (i + 1));
  }
  s *= x;
  if (folded != (quadrant % 2 == 1)) {
    double swap = c;
    c = s;
    s = swap;
  }
  *cosine = quadrant == 1 || quadrant == 2 ? -c : c;
  *sine = quadrant >= 2 ? -s : s;
}

MELSPEC_COLD double exp(double x) { return rounded(exp2x({x, 0.0})); }
MELSPEC_COLD double log(double x) { return rounded(log2x(x)); }
MELSPEC_COLD double exp10(double x) { return rounded(exp2x(multiply(kLn10, {x, 0.0}))); }

MELSPEC_COLD double log10(double x) {
  Double2 ln = log2x(x);
  double quotient = ln.high / kLn10.high;
  Double2 product = multiply(kLn10, {quotient, 0.0});
  return quotient + (((ln.high - product.high) - product.low) + ln.low) / kLn10.high;
}

}  // namespace melspec
