// |rfft|^2 of a windowed frame, by a complex FFT of half its length.
#pragma once

#include "arena.h"
#include "vec.h"

namespace melspec {

// What the first pass multiplies a vector of columns by.
struct First {
  Complex window[4];  // of each quarter: half the analysis window, even samples in re, odd ones in im
  Complex twiddles[3];
};

struct Fft {
  int points;          // of the complex transform: n_fft / 2
  int quarter;         // vectors in a quarter of it
  First *first;            // [quarter]
  Complex *twiddles;       // per pass behind the first and vector of columns: three factors
  Complex *work;       // [points] in vectors
  double *re, *im;     // the transform's output in natural order [points + 1], the last a copy of the first
  double *cosine, *sine;  // of 2 pi k / n_fft for k < points / 2
  uint16_t *order;     // where the first output of each block of the last pass belongs

  void allocate(Arena &arena, int n_fft);
  void prepare(int win_length);
  // Of the analysis window.
  double window_at(int i) const;

  // frame: [n_fft]. power: [n_fft / 2 + 1].
  void power_spectrum(const float *frame, double *power) const;

 private:
  void first_pass(const float *frame) const;
  void middle_passes() const;
  void last_pass4() const;
  void last_pass8() const;
  void split(double *power) const;
  void put(int k, Complex value) const;
};

}  // namespace melspec
