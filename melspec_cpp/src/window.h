// The analysis window.
#pragma once

namespace melspec {

// Periodic Hann window of win_length, zero-padded on both sides to n_fft: window[n_fft].
void hann_window(int win_length, int n_fft, double *window);

}  // namespace melspec
