// Overlapping windows of an endless signal, with the frames that they share computed once.
#pragma once

#include "arena.h"
#include "plan.h"

namespace melspec {

constexpr uint32_t kStreaming = 0x4d454c32;

}  // namespace melspec

struct melspec_stream {
  uint32_t alive;      // kStreaming until destroyed
  int32_t bad_sample;  // of the last push, or -1
  melspec_plan *plan;
  melspec::Levels levels;
  int64_t window_samples, step_samples;
  int64_t n_frames;  // of a window
  int64_t element;   // bytes of a value before the last step: a float, or a double where levels are relative

  // Samples [begin, end) of the buffer begin with the next window; `skip` more belong to no window.
  float *samples;  // [2 window_samples]
  int64_t begin, end, skip;

  // Windows whose numbers differ by a multiple of `phases` lie on one grid of frames, `shift` frames apart. Of each
  // grid the last `kept` frames stay in a ring: frame g of the grid in slot g % kept.
  int64_t phases, shift, kept;
  int64_t window;       // number of the next one
  int64_t *computed;    // [phases] first frame of the grid that is not in the ring yet
  char *ring;           // [phases, n_mels, kept] elements
  double *waiting;      // [n_mels, n_frames] where levels are relative
  float *out;           // [n_mels, n_frames]

  melspec_stream(melspec_plan *plan, melspec_output output, int32_t window_samples, int32_t step_samples);
  // False where it would be more than an address space of 32 bits holds.
  bool allocate(melspec::Arena &arena);

  void reset();
  int32_t push(const float *chunk, int32_t n_samples);
  int32_t pull();
  // Samples until the next window is complete, those that belong to none included.
  int64_t missing() const { return end - begin < window_samples ? skip + window_samples - (end - begin) : 0; }

 private:
  void assemble(void *to);
};
