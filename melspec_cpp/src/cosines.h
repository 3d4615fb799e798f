// The real part of the rfft of windowed frames.
#pragma once

#include "arena.h"
#include "vec.h"

namespace melspec {

struct Cosines {
  struct Number {
    double re, im;
  };
  // What makes outputs n and H - n of a split's first step out of its reals.
  struct Turns {
    Number near, far, both;
  };

  int n_fft;
  float *window;       // [n_fft + 1] rounding has left its halves no mirror images; a 0 behind them
  Turns *turns;        // for each split: 1 <= n <= H / 2
  Number *twiddles;    // for each length of a pass: three factors per column
  double *last;        // [kLast] cos(2 pi i / kLast)
  uint16_t *order;     // where the blocks of a last pass belong
  // The work, which transforms may share: a lane is a frame.
  Vec *reals;          // [n_fft / 2 + 1]
  Complex *work;       // [n_fft / 8]

  static constexpr int kLast = 16;  // reals of a frame that are transformed as they stand

  void allocate(Arena &arena, int n_fft);
  void allocate_work(Arena &arena, int n_fft);
  void prepare();

  // spectrum[k], 0 <= k <= most <= n_fft / 2, lane by lane: the real part of bin k of frames[lane], [n_fft], whose
  // products with the window are rounded to float32. There is one more finite number behind each frame. What is above
  // `most` may be left as it was.
  void real_spectra(const float *const *frames, int most, Vec *spectrum) const;

 private:
  void fold(const float *const *frames) const;
  void split(int length, const Turns *turn) const;
  void transform(int points, const Number *w, int stride, int most, Vec *spectrum) const;
  void finish(int stride, Vec *spectrum) const;
};

}  // namespace melspec
