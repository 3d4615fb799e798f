#include "window.h"

#include "cold.h"
#include "elementary.h"

namespace melspec {

// 1/2 - 1/2 cos(2 pi k / M) = sin^2(pi k / M), which does not cancel near the edges.
MELSPEC_COLD double hann(int i, int win_length, int n_fft) {
  const int k = i - (n_fft - win_length) / 2;
  if (k < 0 || k >= win_length) return 0.0;
  if (win_length == 1) return 1.0;  // as scipy defines it
  double cosine, sine;
  unit_circle(k, 2 * win_length, &cosine, &sine);
  return sine * sine;
}

}  // namespace melspec
