// |rfft|^2 of two windowed frames at once, by a complex FFT of half their length.
#pragma once

#include "arena.h"
#include "vec.h"

namespace melspec {

struct Fft {
  int points;             // of the complex transform: n_fft / 2
  double *twiddles;       // per radix-4 pass and column: the three factors, (re, im) each
  double *post;           // cos, sin of 2 pi k / n_fft for k <= points / 2
  uint16_t *position;     // where output k lies after the passes
  ComplexPair *work;      // [points]

  void allocate(Arena &arena, int n_fft);
  void prepare();

  // window: [n_fft], half the analysis window. power: [n_fft / 2 + 1].
  void power_spectrum(const float *first, const float *second, const double *window, Pair *power) const;
};

}  // namespace melspec
