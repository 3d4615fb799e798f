#include <algorithm>
#include <climits>
#include <numeric>

#include "world.h"

namespace fuzz {
namespace {

constexpr int64_t kMostStreams = 6;

// Bytes that melspec.h says a stream holds; none for frames where no two windows have one in common.
double documented_bytes(const Plan &plan, int32_t output, int64_t window, int64_t step) {
  const melspec_config &c = plan.config;
  const bool relative = is_relative(c, output);
  const int64_t hop = c.hop_length, windows = hop / std::gcd(step, hop), pad = c.center ? c.n_fft / 2 : 0;
  const int64_t inside = std::max<int64_t>(0, (window + pad - c.n_fft) / hop - (pad + hop - 1) / hop + 1);
  const double values = static_cast<double>(plan.frames(window)) * c.n_mels;
  double bytes = 8.0 * static_cast<double>(window) + 4 * values + (relative ? 8 * values : 0);
  if (windows * step < window)
    bytes += static_cast<double>(windows) * (8 + static_cast<double>(inside * c.n_mels) * (relative ? 8 : 4));
  return bytes;
}

}  // namespace

int64_t Stream::missing() const { return std::max<int64_t>(pulled * step + window - taken, 0); }

void Stream::take(const float *samples, int64_t count) {
  const int64_t skipped = std::min(std::max<int64_t>(pulled * step - taken, 0), count);
  recent.insert(recent.end(), samples + skipped, samples + count);
  taken += count;
}

Stream &World::any_stream() {
  return *streams_[static_cast<size_t>(choices_.below(static_cast<int64_t>(streams_.size())))];
}

void World::act_on_streams() {
  const int64_t what = choices_.below(16);
  if (streams_.empty() || what < 2) return stream_create();
  if (what == 2) return stream_destroy();
  Stream &stream = any_stream();
  if (what == 3 && choices_.once_in(2)) return stream_reset(stream);
  for (int64_t n = choices_.between(1, 6); n > 0; --n) {
    if (choices_.once_in(3)) {
      stream_run(stream);
    } else {
      if (choices_.once_in(2)) stream_push(stream);
      stream_pull(stream);
    }
  }
}

void World::stream_create() {
  Plan &plan = any_plan();
  const int64_t hop = plan.config.hop_length;
  const int32_t output = choices_.once_in(32) ? 3 : static_cast<int32_t>(choices_.below(3)),
                window = sample_count(plan);
  int64_t step = choices_.between(1, 2 * std::max(window / 2, 1));
  if (choices_.once_in(2)) step = hop * choices_.between(1, 4);
  if (choices_.once_in(4)) step /= choices_.between(2, 4);
  if (choices_.once_in(8)) step = choices_.pick({1, 2, std::max(window, 2) - 1, window, INT_MAX, INT_MIN, -1, 0});
  step = std::min<int64_t>(step, INT_MAX);
  const int64_t frames = plan.frames(window), values = frames * plan.config.n_mels;
  Faults faults = fault_if(frames < 1, MELSPEC_ERROR_N_SAMPLES) |
                  fault_if(values * 4 > INT_MAX, MELSPEC_ERROR_TOO_LONG) | fault_if(output == 3, MELSPEC_ERROR_OUTPUT) |
                  fault_if(step < 1, MELSPEC_ERROR_STEP);
  Block<melspec_stream *> made(2);
  melspec_stream **to = made.data();
  if (choices_.once_in(32)) to = choices_.once_in(2) ? nullptr : shifted(choices_, to);
  faults |= fault_if(to != made.data(), MELSPEC_ERROR_POINTER);

  const bool enough = values > kMostValues || static_cast<int64_t>(streams_.size()) == kMostStreams;
  memory = {enough || choices_.once_in(32), false, 0};
  const int32_t code = CALL(melspec_stream_create, plan.handle, output, window, static_cast<int32_t>(step), to);
  memory.refuse_next = false;
  const double documented = faults ? 0 : documented_bytes(plan, output, window, step);
  settle(code, faults | fault_if(memory.refused || (code < 0 && documented > 2e9), MELSPEC_ERROR_MEMORY));
  constexpr double kOverhead = 4096;  // the record itself, alignment, red zones
  check(static_cast<double>(memory.largest) <= documented + kOverhead, "bytes of a stream", memory.largest,
        static_cast<int64_t>(documented));
  check(to == made.data() ? !*to == (code < 0) && made.untouched(1) : made.untouched(), "what stream_create writes",
        code);
  if (code < 0) return;
  check(code == MELSPEC_OK, "stream_create and its code disagree", code);
  streams_.push_back(std::make_unique<Stream>());
  Stream &stream = *streams_.back();
  stream.handle = *to;
  stream.plan = &plan;
  stream.output = output;
  stream.window = window;
  stream.step = step;
  stream.place = CALL(melspec_stream_window, *to);
  check(stream.place != nullptr, "a stream without a place for its windows");
  ++plan.streams;
}

// A number of samples to offer, often about as many as the next window lacks.
int64_t World::chunk_size(const Stream &stream) {
  const int64_t missing = stream.missing();
  int64_t n = choices_.once_in(3) ? choices_.below(600)
                                  : choices_.pick({missing, missing - 1, missing + 1, missing + 3 * stream.step});
  if (choices_.once_in(16)) n = choices_.pick({int64_t{0}, int64_t{1}, 2 * stream.window, 2 * stream.window + 1});
  return std::min(std::max<int64_t>(n, 0), kMostSamples);
}

void World::stream_push(Stream &stream) {
  int64_t n = chunk_size(stream);
  const Signal signal = make_signal(choices_, n);
  const float *chunk = signal.samples.data();
  const int64_t mistake = choices_.below(64);
  if (mistake == 0) chunk = nullptr;
  if (mistake == 1) chunk = shifted(choices_, chunk);
  if (mistake == 2) n = choices_.pick({-1, INT_MIN});
  const Faults faults = fault_if(n < 0, MELSPEC_ERROR_N_SAMPLES) |
                        fault_if(n > 0 && mistake < 2, MELSPEC_ERROR_POINTER) |
                        fault_if(signal.bad >= 0, MELSPEC_ERROR_NOT_FINITE);
  const int32_t taken = CALL(melspec_stream_push, stream.handle, chunk, static_cast<int32_t>(n));
  settle(taken, faults);
  if (taken == MELSPEC_ERROR_NOT_FINITE || taken > 0) {
    const int32_t bad = CALL(melspec_stream_bad_sample, stream.handle);
    check(bad == signal.bad, "the bad sample of a chunk", bad, signal.bad);
  }
  if (taken < 0) return;
  check(taken <= n, "more was taken than offered", taken, n);
  stream.take(chunk, taken);
  check(taken == n || stream.missing() == 0, "less was taken than offered, and no window waits", taken, n);
}

void World::stream_pull(Stream &stream) {
  check_last(stream);
  check_next(stream, CALL(melspec_stream_pull, stream.handle));
}

// One chunk, as often as it gives a window.
void World::stream_run(Stream &stream) {
  const Signal signal = make_signal(choices_, chunk_size(stream));
  Block<melspec_chunk> chunk(1);
  *chunk.data() = {stream.handle, signal.samples.data(), static_cast<int32_t>(signal.samples.count())};
  const int64_t mistake = choices_.below(64);
  if (mistake == 0) chunk.data()->samples = nullptr;
  if (mistake == 1) chunk.data()->samples = shifted(choices_, signal.samples.data());
  if (mistake == 2) chunk.data()->n_samples = choices_.pick({-1, INT_MIN});
  int32_t frames = 1;
  int64_t start = 0;
  for (int64_t calls = choices_.between(1, 4); calls > 0 && frames > 0; --calls) {
    check_last(stream);
    const melspec_chunk before = *chunk.data();
    const int64_t taken = std::min<int64_t>(before.n_samples, stream.missing()), bad = signal.bad - start;
    const bool meets_bad = signal.bad >= 0 && bad < taken;
    frames = CALL(melspec_stream_run, chunk.data());
    settle(frames, fault_if(taken < 0, MELSPEC_ERROR_N_SAMPLES) | fault_if(meets_bad, MELSPEC_ERROR_NOT_FINITE) |
                       fault_if(taken > 0 && mistake < 2, MELSPEC_ERROR_POINTER));
    const int64_t moved = frames < 0 ? 0 : taken;
    check(chunk.data()->stream == before.stream && chunk.data()->samples == before.samples + moved &&
              chunk.data()->n_samples == before.n_samples - moved,
          "where a chunk goes on", chunk.data()->n_samples, before.n_samples - moved);
    if (frames == MELSPEC_ERROR_NOT_FINITE || moved > 0) {
      const int32_t found = CALL(melspec_stream_bad_sample, stream.handle);
      check(found == (meets_bad ? bad : -1), "the bad sample of a chunk", found, bad);
    }
    if (frames < 0) return;
    stream.take(before.samples, taken);
    start += taken;
    check_next(stream, frames);
  }
}

// A window stays until the next one.
void World::check_last(const Stream &stream) {
  const float *const place = CALL(melspec_stream_window, stream.handle);
  check(place == stream.place, "the windows have moved");
  check(stream.last.empty() || memcmp(stream.last.data(), place, 4 * stream.last.size()) == 0,
        "a window has changed without a pull");
}

// A window is what a run gives, and comes when all its samples have.
void World::check_next(Stream &stream, int32_t pulled) {
  const melspec_config &c = stream.plan->config;
  const int64_t frames = stream.plan->frames(stream.window);
  check(pulled == (stream.missing() == 0 ? frames : 0), "the number of frames pulled", pulled, frames);
  if (pulled == 0) return;
  Block<float> alone(stream.window), expected(frames * c.n_mels);
  memcpy(alone.data(), stream.recent.data(), static_cast<size_t>(alone.bytes()));
  const int32_t code =
      CALL(melspec_run, stream.plan->handle, stream.output, alone.data(), static_cast<int32_t>(alone.count()),
           expected.data(), static_cast<int32_t>(expected.count()));
  settle(code, 0);
  stream.plan->bad_is_last = false;
  if (record.plant == Plant::kBits) *expected.data() = -*expected.data() + 1;
  check(expected.same(stream.place), "a window of a stream is not what a run gives", stream.pulled, -1);
  digest(stream.place, expected.bytes());
  stream.last.assign(stream.place, stream.place + expected.count());
  ++stream.pulled;
  const int64_t gone = std::min<int64_t>(stream.step, static_cast<int64_t>(stream.recent.size()));
  stream.recent.erase(stream.recent.begin(), stream.recent.begin() + gone);
}

void World::stream_reset(Stream &stream) {
  settle(CALL(melspec_stream_reset, stream.handle), 0);
  stream.taken = stream.pulled = 0;
  stream.recent.clear();
}

void World::stream_destroy() {
  const auto chosen = streams_.begin() + choices_.below(static_cast<int64_t>(streams_.size()));
  settle(CALL(melspec_stream_destroy, (*chosen)->handle), 0);
  --(*chosen)->plan->streams;
  streams_.erase(chosen);
}

}  // namespace fuzz
