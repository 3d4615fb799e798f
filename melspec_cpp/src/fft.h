// |rfft|^2 of windowed frames.
#pragma once

#include "arena.h"
#include "vec.h"

namespace melspec {

// What the first split of a frame takes for a vector of neighbouring samples of each quarter.
struct Windowed {
  Vec window[4];
  Complex turn;
};

constexpr int kRest = 32;  // reals of a frame whose splits are left to the end

struct Fft {
  int n_fft;
  Windowed *windowed;    // [n_fft / 4] in vectors
  Complex *turns;        // for each further split: e^(-2 pi i n / length), n < length / 4, in vectors
  Complex *twiddles;     // for each length of a pass: three factors per vector of columns
  double *reals;         // [n_fft / 2] what is left to split
  Complex *work;         // [n_fft / 4] in vectors
  Vec *rest;             // [kRest] of kLanes frames
  Complex *rest_turns;   // [kRest / 2] e^(-2 pi i n / kRest), in every lane
  uint16_t *order;       // where the blocks of a last pass belong, for 1, 4, 16 and 64 blocks

  void allocate(Arena &arena, int n_fft);
  void prepare(int win_length);
  // Of the analysis window.
  double window_at(int i) const;

  // power[lane]: [n_fft / 2 + 1] of frames[lane], [n_fft]; for `count` lanes. What is in the others is lost.
  void power_spectra(const float *const *frames, int count, double *const *power) const;

 private:
  void split_windowed(const float *frame) const;
  void split(int length, const Complex *turn) const;
  void transform(int points, const Complex *w, double *power, int bins) const;
  // k: the order of the blocks; first: where output 0 belongs.
  void last_pass4(int points, const uint16_t *k, double *first, int bins) const;
  void last_pass8(int points, const uint16_t *k, double *first, int bins) const;
  void finish(double *const *power) const;
};

}  // namespace melspec
