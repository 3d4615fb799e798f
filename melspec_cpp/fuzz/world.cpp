#include "world.h"

#include <algorithm>
#include <climits>
#include <cmath>

namespace fuzz {
namespace {

constexpr int64_t kMostPlans = 6;

int32_t any_output(Choices &choices) {
  return choices.once_in(32) ? choices.pick({INT_MIN, -1, 3, 4, INT_MAX}) : static_cast<int32_t>(choices.below(3));
}

// A plan of the configuration, or null where it deserves none.
melspec_plan *created(const melspec_config &config, bool refuse_memory = false) {
  Block<melspec_config> given(1);
  *given.data() = config;
  melspec_plan *plan = reinterpret_cast<melspec_plan *>(&given);
  memory = {refuse_memory, false, 0};
  const int32_t code = CALL(melspec_create, given.data(), &plan);
  memory.refuse_next = false;
  const Verdict deserved = verdict(config);
  settle(code, deserved.must | fault_if(memory.refused, MELSPEC_ERROR_MEMORY) | (code < 0 ? deserved.may : 0));
  check(code <= 0 && (plan == nullptr) == (code < 0), "create and its code disagree", code);
  check(memcmp(given.data(), &config, sizeof config) == 0, "create wrote into the configuration");
  return plan;
}

int32_t run_either_way(Choices &choices, melspec_plan *plan, int32_t output, const float *samples, int32_t n,
                       float *out, int32_t capacity) {
  if (choices.once_in(2)) return CALL(melspec_run, plan, output, samples, n, out, capacity);
  Block<melspec_job> job(1);
  *job.data() = {plan, output, samples, n, out, capacity};
  return CALL(melspec_run_job, job.data());
}

void check_values(const melspec_config &config, int32_t output, const float *values, int64_t count) {
  float least = values[0], most = values[0];
  for (int64_t i = 0; i < count; ++i) {
    check(std::isfinite(values[i]), "an output is not finite", i);
    least = std::min(least, values[i]);
    most = std::max(most, values[i]);
  }
  if (output == MELSPEC_OUTPUT_POWER) check(least >= 0, "a power is negative");
  if (output != MELSPEC_OUTPUT_DECIBELS) return;
  if (config.ref_mode == MELSPEC_REF_MAX) check(most == 0, "the maximum is not 0 dB");
  if (config.has_top_db)
    check(most - least <= config.top_db + 1e-6 * (std::fabs(most) + std::fabs(least)), "a level lies below top_db");
}

// The filter bank or the window: `count` numbers from 0 to `most`.
template <typename T>
void copy_one(Choices &choices, const melspec_plan *plan, const char *name,
              int32_t (*copy)(const melspec_plan *, T *, int32_t), int64_t count, double most) {
  Block<T> out(count + choices.below(3)), again(count);
  T *to = out.data();
  int32_t capacity = static_cast<int32_t>(out.count());
  const int64_t mistake = choices.below(8);
  if (mistake == 0) capacity = choices.pick({static_cast<int32_t>(count) - 1, 0, -1, INT_MIN});
  if (mistake == 1) to = nullptr;
  if (mistake == 2) to = shifted(choices, to);
  const int32_t written = call(name, copy, plan, to, capacity);
  settle(written,
         fault_if(capacity < count, MELSPEC_ERROR_CAPACITY) | fault_if(to != out.data(), MELSPEC_ERROR_POINTER));
  check(out.untouched(written < 0 ? 0 : count), "a copy wrote where it must not");
  if (written < 0) return;
  check(written == count, "the number written", written, count);
  for (int64_t i = 0; i < count; ++i) check(to[i] >= 0 && to[i] <= most, "a weight is negative or too large", i);
  digest(to, again.bytes());
  call(name, copy, plan, again.data(), static_cast<int32_t>(count));
  check(again.same(to), "a second copy differs");
}

}  // namespace

int64_t Plan::frames(int64_t n_samples) const {
  if (n_samples < 1) return 0;
  if (config.center) return 1 + n_samples / config.hop_length;
  return n_samples < config.n_fft ? 0 : 1 + (n_samples - config.n_fft) / config.hop_length;
}

Plan &World::any_plan() {
  while (plans_.empty()) create();
  return *plans_[static_cast<size_t>(choices_.below(static_cast<int64_t>(plans_.size())))];
}

void World::act() {
  const int64_t what = choices_.below(132);
  if (what >= 128)
    act_on_laws();
  else if (what < 5)
    create();
  else if (what < 20)
    create_wrongly();
  else if (what < 24)
    destroy();
  else if (what < 36)
    measure();
  else if (what < 40)
    copy_out();
  else if (what < 66)
    run();
  else if (what < 68)
    run_elsewhere();
  else if (what < 70)
    ask_nobody();
  else if (what < 80)
    small_calls();
  else
    act_on_streams();
}

void World::end() {
  while (!streams_.empty()) {
    Plan &plan = *streams_.back()->plan;
    settle(CALL(melspec_destroy, plan.handle), fault(MELSPEC_ERROR_IN_USE));
    stream_destroy();
  }
  if (record.plant == Plant::kLeak && !plans_.empty()) plans_.pop_back();
  for (const auto &plan : plans_) settle(CALL(melspec_destroy, plan->handle), 0);
  plans_.clear();
}

void World::create() {
  const melspec_config config = choices_.once_in(8) && !plans_.empty() ? any_plan().config : valid_config(choices_);
  keep(created(config, choices_.once_in(32)), config);
}

void World::keep(melspec_plan *made, const melspec_config &config) {
  if (!made) return;
  if (static_cast<int64_t>(plans_.size()) < kMostPlans) {
    plans_.push_back(std::make_unique<Plan>());
    plans_.back()->handle = made;
    plans_.back()->config = config;
  } else {
    settle(CALL(melspec_destroy, made), 0);
  }
}

void World::create_wrongly() {
  if (!choices_.once_in(8)) {
    const melspec_config config = doubtful_config(choices_);
    keep(created(config), config);
    return;
  }
  Block<melspec_config> config(1);
  *config.data() = valid_config(choices_);
  Block<melspec_plan *> plan(2);
  const bool without_plan = choices_.once_in(2), null = choices_.once_in(2);
  melspec_plan **to = plan.data();
  const melspec_config *from = config.data();
  if (without_plan)
    to = null ? nullptr : shifted(choices_, to);
  else
    from = null ? nullptr : shifted(choices_, from);
  settle(CALL(melspec_create, from, to), fault(MELSPEC_ERROR_POINTER));
  check(without_plan ? plan.untouched() : !*to && plan.untouched(1), "create wrote where it must not");
}

void World::destroy() {
  Plan &plan = any_plan();
  const int32_t code = CALL(melspec_destroy, plan.handle);
  settle(code, fault_if(plan.streams > 0, MELSPEC_ERROR_IN_USE));
  if (code == MELSPEC_OK)
    plans_.erase(std::find_if(plans_.begin(), plans_.end(), [&plan](const auto &one) { return one.get() == &plan; }));
}

// Most of them near where something changes, and few frames.
int32_t World::sample_count(const Plan &plan) {
  const int64_t n_fft = plan.config.n_fft, hop = plan.config.hop_length;
  if (choices_.once_in(24))
    return choices_.pick({INT_MIN, -1, 0, 1, 2, 1 << 30, INT_MAX - 1, INT_MAX, static_cast<int32_t>(choices_.bits(4))});
  int64_t n = choices_.between(1, 4 * n_fft);
  if (choices_.once_in(2)) {
    n = n_fft / choices_.pick({1, 2}) + choices_.between(-1, 1);
    n += hop * choices_.below(12);
  }
  const int64_t limit = choices_.once_in(64) ? 500 : choices_.once_in(8) ? 48 : 12;
  if (plan.frames(n) > limit) n = (plan.config.center ? 0 : n_fft) + hop * (limit - 1);
  return static_cast<int32_t>(std::min<int64_t>(n, INT_MAX));
}

void World::measure() {
  const Plan &plan = any_plan();
  const int32_t n = sample_count(plan);
  const int64_t frames = plan.frames(n), bytes = frames * plan.config.n_mels * 4;
  const Faults faults = fault_if(n < 0, MELSPEC_ERROR_N_SAMPLES);
  const int32_t counted = CALL(melspec_frames, plan.handle, n), measured = CALL(melspec_bytes, plan.handle, n);
  settle(counted, faults | fault_if(frames > INT_MAX, MELSPEC_ERROR_TOO_LONG));
  settle(measured, faults | fault_if(bytes > INT_MAX, MELSPEC_ERROR_TOO_LONG));
  check(counted < 0 || counted == frames, "the number of frames", counted, frames);
  check(measured < 0 || measured == bytes, "the number of bytes", measured, bytes);
}

void World::copy_out() {
  const Plan &plan = any_plan();
  const melspec_config &c = plan.config;
  const double most = c.mel_norm == MELSPEC_NORM_NONE ? 1 : 1e30;
  if (choices_.once_in(2))
    copy_one(choices_, plan.handle, "melspec_filters", melspec_filters, c.n_mels * (1 + c.n_fft / 2), most);
  else
    copy_one(choices_, plan.handle, "melspec_window", melspec_window, c.n_fft, 1);
}

void World::run() {
  Plan &plan = any_plan();
  const int32_t output = any_output(choices_), n = sample_count(plan);
  const int64_t frames = plan.frames(n), need = frames * plan.config.n_mels;
  Faults faults = fault_if(frames < 1, MELSPEC_ERROR_N_SAMPLES) | fault_if(need * 4 > INT_MAX, MELSPEC_ERROR_TOO_LONG) |
                  fault_if(output < 0 || output > MELSPEC_OUTPUT_SCALED, MELSPEC_ERROR_OUTPUT);
  if (n > kMostSamples || need > kMostValues) {
    const int32_t capacity = choices_.once_in(2) ? INT_MAX : static_cast<int32_t>(choices_.bits(4));
    faults |= fault(MELSPEC_ERROR_POINTER) | fault_if(capacity < need, MELSPEC_ERROR_CAPACITY);
    settle(run_either_way(choices_, plan.handle, output, nullptr, n, nullptr, capacity), faults);
    return;
  }
  const bool one_short = record.plant == Plant::kShort && n > 1;
  const Signal signal = make_signal(choices_, std::max(n, 0) - one_short);
  Block<float> out{need + choices_.pick({0, 0, 0, 1, 7}), choices_.below(4)};
  const float *samples = signal.samples.data();
  float *to = out.data();
  int32_t capacity = static_cast<int32_t>(out.count());
  memory = {false, false, 0};
  switch (choices_.below(24)) {
    case 0:
      capacity = choices_.pick({static_cast<int32_t>(need) - 1, 0, -1, INT_MIN});
      break;
    case 1:
      samples = nullptr;
      break;
    case 2:
      to = nullptr;
      break;
    case 3:
      samples = shifted(choices_, samples);
      break;
    case 4:
      to = shifted(choices_, to);
      break;
    case 5:
      to = reinterpret_cast<float *>(plan.handle);
      break;
    case 6:
      memory.refuse_next = true;
      break;
  }
  faults |= fault_if(samples != signal.samples.data() || to != out.data(), MELSPEC_ERROR_POINTER) |
            fault_if(capacity < need, MELSPEC_ERROR_CAPACITY) | fault_if(signal.bad >= 0, MELSPEC_ERROR_NOT_FINITE);
  if (record.plant == Plant::kCode) --capacity;
  const int32_t code = run_either_way(choices_, plan.handle, output, samples, n, to, capacity);
  memory.refuse_next = false;
  settle(code, faults | fault_if(memory.refused, MELSPEC_ERROR_MEMORY));
  plan.bad_is_last = code == MELSPEC_ERROR_NOT_FINITE;
  if (plan.bad_is_last) plan.bad = signal.bad;
  if (code < 0) {
    if (record.plant == Plant::kWritten && need > 0) *out.data() = 0;
    check(out.untouched(), "something was written on an error");
    return;
  }
  check(code == frames, "the number of frames of a run", code, frames);
  check(out.untouched(need), "a run wrote more than its frames");
  if (signal.tame && is_tame(plan.config)) check_values(plan.config, output, to, need);
  digest(to, need * 4);
  if (choices_.once_in(4)) run_repeatedly(plan, output, signal, out);
}

// The same again, by the plan or by another of the same configuration; and one frame alone.
void World::run_repeatedly(Plan &plan, int32_t output, const Signal &signal, const Block<float> &first) {
  const melspec_config &c = plan.config;
  const int32_t n = static_cast<int32_t>(signal.samples.count());
  const int64_t frames = plan.frames(n);
  Block<float> moved(n, choices_.below(4)), again(frames * c.n_mels, choices_.below(4));
  memcpy(moved.data(), signal.samples.data(), static_cast<size_t>(moved.bytes()));
  melspec_plan *const twin = choices_.once_in(8) ? created(c) : nullptr;
  const int32_t capacity = static_cast<int32_t>(again.count());
  run_either_way(choices_, twin ? twin : plan.handle, output, moved.data(), n, again.data(), capacity);
  check(again.same(first.data()), "a second run gives other bits");
  if (twin) settle(CALL(melspec_destroy, twin), 0);

  if (c.center || is_relative(c, output)) return;
  const int64_t frame = choices_.below(frames);
  Block<float> alone(c.n_fft), column(c.n_mels);
  memcpy(alone.data(), moved.data() + frame * c.hop_length, static_cast<size_t>(alone.bytes()));
  settle(CALL(melspec_run, plan.handle, output, alone.data(), c.n_fft, column.data(), c.n_mels), 0);
  for (int64_t band = 0; band < c.n_mels; ++band)
    check(memcmp(column.data() + band, first.data() + band * frames + frame, 4) == 0, "a frame alone gives other bits",
          band);
}

// Samples and output in one another's memory.
void World::run_elsewhere() {
  Plan &plan = any_plan();
  const int32_t n = sample_count(plan);
  const int64_t need = plan.frames(n) * plan.config.n_mels;
  if (need < 1 || n > kMostSamples || need > kMostValues) return;
  const int64_t shared = choices_.once_in(2) ? 1 : choices_.between(1, std::min<int64_t>(n, need));
  Block<float> both(n + need - shared);
  const bool samples_first = choices_.once_in(2);
  float *const samples = both.data() + (samples_first ? 0 : need - shared);
  float *const to = both.data() + (samples_first ? n - shared : 0);
  settle(run_either_way(choices_, plan.handle, MELSPEC_OUTPUT_POWER, samples, n, to, static_cast<int32_t>(need)),
         fault(MELSPEC_ERROR_POINTER));
  check(both.untouched(), "something was written on an error");
  const melspec_job job = {plan.handle, 0, samples, n, to, 0};
  settle(CALL(melspec_run_job, choices_.once_in(2) ? nullptr : shifted(choices_, &job)), fault(MELSPEC_ERROR_POINTER));
}

// Handles of what is no plan or no stream.
void World::ask_nobody() {
  alignas(64) static const char zeros[4096] = {};
  const uintptr_t plan_or_stream = reinterpret_cast<uintptr_t>(streams_.empty() ? nullptr : any_stream().handle);
  const uintptr_t blank = reinterpret_cast<uintptr_t>(zeros);
  const uintptr_t no_plan = choices_.pick({uintptr_t{0}, blank, blank + 4, blank + 1, plan_or_stream});
  const uintptr_t no_stream =
      choices_.pick({uintptr_t{0}, blank, blank + 4, blank + 1, reinterpret_cast<uintptr_t>(any_plan().handle)});
  melspec_plan *const plan = reinterpret_cast<melspec_plan *>(no_plan);
  melspec_stream *const stream = reinterpret_cast<melspec_stream *>(no_stream);
  const Faults as_plan = fault(MELSPEC_ERROR_PLAN), as_stream = fault(MELSPEC_ERROR_STREAM);
  Block<float> floats(8);
  Block<double> doubles(8);
  Block<melspec_stream *> made(1);
  settle(CALL(melspec_destroy, plan), plan ? as_plan : 0);
  settle(CALL(melspec_frames, plan, 4096), as_plan);
  settle(CALL(melspec_bytes, plan, 4096), as_plan);
  settle(CALL(melspec_filters, plan, floats.data(), 8), as_plan);
  settle(CALL(melspec_window, plan, doubles.data(), 8), as_plan);
  settle(run_either_way(choices_, plan, 0, floats.data(), 4, floats.data() + 4, 4), as_plan);
  check(CALL(melspec_bad_sample, plan) == MELSPEC_ERROR_PLAN, "the bad sample of no plan");
  settle(CALL(melspec_stream_create, plan, 0, 4096, 512, made.data()), as_plan);
  check(*made.data() == nullptr, "a stream of no plan");
  settle(CALL(melspec_stream_destroy, stream), stream ? as_stream : 0);
  settle(CALL(melspec_stream_push, stream, floats.data(), 8), as_stream);
  settle(CALL(melspec_stream_pull, stream), as_stream);
  melspec_chunk chunk = {stream, floats.data(), 8};
  settle(CALL(melspec_stream_run, &chunk), as_stream);
  check(chunk.samples == floats.data() && chunk.n_samples == 8, "a chunk for no stream has moved");
  settle(CALL(melspec_stream_run, choices_.once_in(2) ? nullptr : shifted(choices_, &chunk)),
         fault(MELSPEC_ERROR_POINTER));
  settle(CALL(melspec_stream_reset, stream), as_stream);
  check(CALL(melspec_stream_bad_sample, stream) == MELSPEC_ERROR_STREAM, "the bad sample of no stream");
  check(CALL(melspec_stream_window, stream) == nullptr, "the window of no stream");
  check(floats.untouched() && doubles.untouched(), "something was written on an error");
}

void World::small_calls() {
  check(call("melspec_abi_version", melspec_abi_version) == MELSPEC_ABI_VERSION, "the version");
  check(call("melspec_config_size", melspec_config_size) == sizeof(melspec_config), "the size of a configuration");
  const int32_t code =
      static_cast<int32_t>(choices_.once_in(4) ? choices_.between(INT_MIN, INT_MAX) : choices_.between(-40, 3));
  const char *const message = CALL(melspec_message, code), *const unknown = CALL(melspec_message, 1);
  for (const char *c = message; *c; ++c) check(*c >= ' ' && *c <= '~', "a message is not ASCII", code);
  check((strcmp(message, unknown) != 0) == (code <= 0 && code > -kCodes), "which codes have messages", code);

  const Plan &plan = any_plan();
  const int32_t bad = CALL(melspec_bad_sample, plan.handle);
  check(bad == plan.bad || (bad == -1 && !plan.bad_is_last), "the bad sample", bad, plan.bad);

  int32_t bytes = static_cast<int32_t>(choices_.below(5000)) - 1;
  if (choices_.once_in(16)) bytes = choices_.pick({INT_MIN, INT_MAX});
  memory = {choices_.once_in(8), false, 0};
  char *const given = static_cast<char *>(CALL(melspec_alloc, bytes));
  memory.refuse_next = false;
  check(!given == (bytes < 0 || memory.refused), "what alloc gives", bytes);
  check(reinterpret_cast<uintptr_t>(given) % 16 == 0, "how alloc aligns");
  if (given) memset(given, 1, static_cast<size_t>(bytes));
  CALL(melspec_free, given);
}

}  // namespace fuzz
