// The analysis window.
#pragma once

namespace melspec {

// Sample i of the periodic Hann window of win_length, zero-padded on both sides to n_fft.
double hann(int i, int win_length, int n_fft);

}  // namespace melspec
