// Triangular mel filters, kept sparse: a band's weights run over neighbouring FFT bins.
#pragma once

#include "arena.h"
#include "melspec.h"
#include "vec.h"

namespace melspec {

constexpr int kStep = 4;  // bins that a sum takes at once

struct FilterBank {
  int n_mels, bins;
  int32_t *first;    // [n_mels] first bin of a band
  int32_t *count;    // [n_mels] its number of bins, filled up to a multiple of kStep; 0 for a band between two bins
  double *weights;   // the bands' weights one after another, each a float32 value, 0 in what fills up
  double *edges;     // [n_mels + 2] Hz

  void allocate(Arena &arena, int n_mels, int n_fft);

  // False where f_min and f_max are too close for n_mels separate edges.
  bool prepare(const melspec_config &config);

  // values[band], lane by lane: the sum over the bins of weight * spectrum[lane]. Each spectrum has kStep - 1 finite
  // numbers behind its last bin.
  void apply(double *const *spectrum, Vec *values) const;

  // Dense float32 matrix [n_mels, bins].
  void copy(float *out) const;
};

}  // namespace melspec
