// Triangular mel filters, kept sparse: a band's weights run over neighbouring FFT bins.
#pragma once

#include "arena.h"
#include "melspec.h"
#include "vec.h"

namespace melspec {

struct FilterBank {
  int n_mels, bins;
  int32_t *first;    // [n_mels] first bin of a band
  int32_t *count;    // [n_mels] its number of bins, 0 for a band between two bins
  double *weights;   // the bands' weights one after another, each a float32 value
  double *edges;     // [n_mels + 2] Hz

  void allocate(Arena &arena, int n_mels, int n_fft);

  // False where f_min and f_max are too close for n_mels separate edges.
  bool prepare(const melspec_config &config);

  // values[m] = sum over bins of weight * spectrum, in an order that is the same in every build.
  void apply(const Pair *spectrum, Pair *values) const;

  // Dense float32 matrix [n_mels, bins].
  void copy(float *out) const;
};

}  // namespace melspec
