#include "stream.h"

#include "cold.h"
#include "finite.h"
#include "memory.h"

using melspec::copy;

namespace {

MELSPEC_COLD int64_t gcd(int64_t a, int64_t b) { return b == 0 ? a : gcd(b, a % b); }

}  // namespace

MELSPEC_COLD melspec_stream::melspec_stream(melspec_plan *plan, melspec_output output, int32_t window_samples,
                                            int32_t step_samples)
    : alive(melspec::kStreaming),
      bad_sample(-1),
      plan(plan),
      levels(plan->config, output),
      window_samples(window_samples),
      step_samples(step_samples),
      n_frames(plan->frames(window_samples)),
      element(levels.relative ? 8 : 4) {
  const int64_t hop = plan->config.hop_length;
  phases = hop / gcd(step_samples, hop);
  shift = phases * step_samples / hop;
  kept = plan->end_inside(window_samples) - plan->first_inside();
  if (shift >= kept) phases = kept = 0;  // no frame occurs twice
}

MELSPEC_COLD bool melspec_stream::allocate(melspec::Arena &arena) {
  constexpr int64_t kMost = 0x7fffff00;
  const int64_t mels = plan->config.n_mels;
  const int64_t values = n_frames * mels;
  // Each factor is below 2^31, and so is the first product once it has passed.
  if (kept > 0 && kept * mels > kMost / element / phases) return false;
  const int64_t ring_bytes = phases * kept * mels * element;
  if (arena.used + 8 * window_samples + 12 * values + ring_bytes + 8 * phases + 512 > kMost) return false;
  samples = arena.take<float>(2 * window_samples);
  computed = arena.take<int64_t>(phases);
  ring = arena.take<char>(ring_bytes);
  waiting = arena.take<double>(levels.relative ? values : 0);
  out = arena.take<float>(values);
  return true;
}

MELSPEC_COLD void melspec_stream::reset() {
  begin = end = skip = window = 0;
  for (int64_t phase = 0; phase < phases; ++phase) computed[phase] = 0;
}

MELSPEC_COLD int32_t melspec_stream::push(const float *chunk, int32_t n_samples) {
  bad_sample = melspec::first_not_finite(chunk, n_samples);
  if (bad_sample >= 0) return MELSPEC_ERROR_NOT_FINITE;
  const int64_t skipped = skip < n_samples ? skip : n_samples;
  skip -= skipped;
  const int64_t capacity = 2 * window_samples, room = capacity - (end - begin), offered = n_samples - skipped;
  const int64_t taken = offered < room ? offered : room;
  if (end + taken > capacity) {
    copy(samples, samples + begin, 4 * (end - begin));
    end -= begin;
    begin = 0;
  }
  copy(samples + end, chunk + skipped, 4 * taken);
  end += taken;
  return static_cast<int32_t>(skipped + taken);
}

MELSPEC_COLD int32_t melspec_stream::pull() {
  if (end - begin < window_samples) return 0;
  assemble(levels.relative ? static_cast<void *>(waiting) : out);
  if (levels.relative) levels.finish(waiting, n_frames * plan->config.n_mels, out);
  begin += step_samples;
  if (begin > end) {
    skip = begin - end;
    begin = end;
  }
  ++window;
  return static_cast<int32_t>(n_frames);
}

MELSPEC_COLD void melspec_stream::assemble(void *to) {
  const float *x = samples + begin;
  // Where nothing is kept, all frames are computed here; the first inside may then lie behind them.
  const int64_t head = kept > 0 ? plan->first_inside() : n_frames, tail = head + kept;
  plan->columns(levels, x, window_samples, 0, head, to, n_frames);
  plan->columns(levels, x, window_samples, tail, n_frames, static_cast<char *>(to) + element * tail, n_frames);
  if (kept == 0) return;

  const int64_t phase = window % phases;
  char *const rows = ring + element * phase * plan->config.n_mels * kept;
  const int64_t before = window / phases * shift;  // the window's first frame, on its grid
  int64_t t = computed[phase] - before > head ? computed[phase] - before : head;
  while (t < tail) {
    const int64_t slot = (before + t) % kept;
    const int64_t end = t + (tail - t < kept - slot ? tail - t : kept - slot);
    plan->columns(levels, x, window_samples, t, end, rows + element * slot, kept);
    t = end;
  }
  computed[phase] = before + tail;

  const int64_t oldest = (before + head) % kept;
  for (int band = 0; band < plan->config.n_mels; ++band) {
    const char *row = rows + element * band * kept;
    char *line = static_cast<char *>(to) + element * (band * n_frames + head);
    copy(line, row + element * oldest, element * (kept - oldest));
    copy(line + element * (kept - oldest), row, element * oldest);
  }
}
