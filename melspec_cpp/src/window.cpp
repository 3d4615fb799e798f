#include "window.h"

#include "cold.h"
#include "elementary.h"

namespace melspec {

// 1/2 - 1/2 cos(2 pi k / M) = sin^2(pi k / M), which does not cancel near the edges.
MELSPEC_COLD void hann_window(int win_length, int n_fft, double *window) {
  int left = (n_fft - win_length) / 2;
  for (int i = 0; i < n_fft; ++i) {
    int k = i - left;
    if (k < 0 || k >= win_length) {
      window[i] = 0.0;
    } else if (win_length == 1) {
      window[i] = 1.0;  // as scipy defines it
    } else {
      double cosine, sine;
      unit_circle(k, 2 * win_length, &cosine, &sine);
      window[i] = sine * sine;
    }
  }
}

}  // namespace melspec
