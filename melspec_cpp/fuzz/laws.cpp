// Power laws, each made, used and destroyed in one go.
#include <algorithm>
#include <climits>
#include <cmath>

#include "world.h"

namespace fuzz {
namespace {

// Most of them cheap: few channels, short frames, few bands.
melspec_law_config valid_law(Choices &choices) {
  melspec_law_config c;
  memset(&c, 0, sizeof c);
  c.abi_version = MELSPEC_ABI_VERSION;
  c.sample_rate = choices.pick({8000, 22050, 44100, 48000, 96000});
  c.n_mels = choices.pick({1, 2, 3, 5, 8, 16, 40, 96});
  c.n_channels = choices.pick({1, 1, 1, 2, 2, 3, MELSPEC_LAW_CHANNELS});
  c.peak_epsilon = choices.pick({1e-6, 1.0, 1e-15, 1e30, choices.unit() + 1e-9});
  c.peak_offset = choices.pick({0.5, 0.0, -1.0, 1e-6, 1e-3 + 1e3 * choices.unit()});
  c.peak_scale = choices.pick({2.0, -1.0, 1e-12, 1e9, 1e-3 + choices.unit()});
  for (int32_t i = 0; i < c.n_channels; ++i) {
    melspec_law_channel &channel = c.channels[i];
    const int32_t n = channel.n_fft = choices.pick({256, 256, 256, 512, 512, 1024, 2048, 4096});
    channel.hop_length = choices.pick({1, n / 4, n / 2, n, 3 * n + 1, 1 << 30, INT_MAX});
    const double top = c.sample_rate / 2.0;
    channel.f_min = choices.once_in(2) ? 0.9 * top * choices.unit() : choices.pick({0.0, -0.0, 150.0});
    channel.f_max = choices.once_in(2) ? channel.f_min + (top - channel.f_min) * (0.01 + 0.99 * choices.unit()) : top;
    if (channel.f_max > top) channel.f_max = top;
    channel.exponent = choices.pick({1.0, 0.5, 0.2295, 1e-3, 5e-324, 1.0 - choices.unit()});
  }
  return c;
}

// A valid one with some bytes replaced, or one field.
melspec_law_config doubtful_law(Choices &choices) {
  melspec_law_config c = valid_law(choices);
  if (choices.once_in(8)) {  // bands that rounding may put in one place
    c.channels[0].f_max = std::nextafter(c.channels[0].f_min, 1e9);
    return c;
  }
  unsigned char *const bytes = reinterpret_cast<unsigned char *>(&c);
  constexpr int64_t kSize = sizeof c;
  if (choices.once_in(3)) {
    for (int64_t n = choices.between(1, 4); n > 0; --n) {
      const int64_t at = choices.below(kSize);
      bytes[at] = static_cast<unsigned char>(choices.bits(1));
    }
    return c;
  }
  melspec_law_channel &channel = c.channels[choices.below(MELSPEC_LAW_CHANNELS)];
  if (choices.once_in(2)) {
    double *const fields[] = {&c.peak_epsilon, &c.peak_offset, &c.peak_scale,
                              &channel.f_min,  &channel.f_max, &channel.exponent};
    *fields[choices.below(6)] = choices.pick({0.0, -1.0, 1e300, 1e13, 1e-13, static_cast<double>(NAN), HUGE_VAL, 24000.1});
  } else {
    int32_t *const fields[] = {&c.abi_version, &c.sample_rate, &c.n_mels,
                               &c.n_channels,  &channel.n_fft, &channel.hop_length};
    *fields[choices.below(6)] = choices.pick({0, 1, 2, 3, 4, 5, -1, 1000, 257, 128, 8192, INT_MIN, INT_MAX});
  }
  return c;
}

Faults faults_of(const melspec_law_config &c, Faults *may) {
  const auto outside = [](int32_t value, int32_t least, int32_t most) { return value < least || value > most; };
  const double scale = std::fabs(c.peak_scale), offset = std::fabs(c.peak_offset);
  Faults must = fault_if(c.abi_version != MELSPEC_ABI_VERSION, MELSPEC_ERROR_ABI_VERSION) |
                fault_if(outside(c.sample_rate, 8000, 96000), MELSPEC_ERROR_SAMPLE_RATE) |
                fault_if(outside(c.n_mels, 1, 256), MELSPEC_ERROR_N_MELS) |
                fault_if(outside(c.n_channels, 1, MELSPEC_LAW_CHANNELS), MELSPEC_ERROR_CHANNELS) |
                fault_if(!(c.peak_epsilon >= 1e-15 && c.peak_epsilon <= 1e30 && (offset == 0 || offset >= 1e-6) &&
                           scale >= 1e-12 && scale * (1.0 + offset) <= 1e12),
                         MELSPEC_ERROR_PEAK);
  for (int32_t i = 0; i < MELSPEC_LAW_CHANNELS; ++i) {
    const melspec_law_channel &channel = c.channels[i];
    const unsigned char *const bytes = reinterpret_cast<const unsigned char *>(&channel);
    if (i >= c.n_channels) {
      must |= fault_if(std::any_of(bytes, bytes + sizeof channel, [](unsigned char b) { return b != 0; }),
                       MELSPEC_ERROR_CHANNELS);
      continue;
    }
    const int32_t n = channel.n_fft;
    must |= fault_if(n < 256 || n > 4096 || (n & (n - 1)) != 0, MELSPEC_ERROR_N_FFT);
    must |= fault_if(channel.hop_length < 1, MELSPEC_ERROR_HOP_LENGTH);
    must |= fault_if(!(channel.f_min >= 0 && channel.f_min < channel.f_max && channel.f_max <= c.sample_rate / 2.0),
                     MELSPEC_ERROR_FREQUENCIES);
    must |= fault_if(!(channel.exponent > 0 && channel.exponent <= 1), MELSPEC_ERROR_EXPONENT);
    // the rounding of their mels may or may not keep the edges of the bands apart
    if (channel.f_max - channel.f_min < 1e-5 * (c.n_mels + 1.0) * (channel.f_max + 700)) *may |= fault(MELSPEC_ERROR_FREQUENCIES);
  }
  return must;
}

melspec_law *created(const melspec_law_config &config, bool refuse_memory = false) {
  Block<melspec_law_config> given(1);
  *given.data() = config;
  melspec_law *law = reinterpret_cast<melspec_law *>(&given);
  memory = {refuse_memory, false, 0};
  const int32_t code = CALL(melspec_law_create, given.data(), &law);
  memory.refuse_next = false;
  Faults may = 0;
  const Faults must = faults_of(config, &may);
  settle(code, must | fault_if(memory.refused, MELSPEC_ERROR_MEMORY) | (code < 0 ? may : 0));
  check(code <= 0 && (law == nullptr) == (code < 0), "create and its code disagree", code);
  check(memcmp(given.data(), &config, sizeof config) == 0, "create wrote into the configuration");
  return law;
}

int64_t frames_of(const melspec_law_config &c, int64_t n_samples) {
  int64_t least = INT_MAX;
  for (int32_t i = 0; i < c.n_channels; ++i) {
    const int64_t room = n_samples - c.channels[i].n_fft;
    least = std::min(least, room < 0 ? 0 : room / c.channels[i].hop_length + 1);
  }
  return least;
}

}  // namespace

void World::act_on_laws() {
  if (choices_.once_in(8)) {
    laws_of_nobody();
    return;
  }
  const melspec_law_config c = choices_.once_in(3) ? doubtful_law(choices_) : valid_law(choices_);
  melspec_law *const law = created(c, choices_.once_in(24));
  if (!law) return;
  for (int64_t n = choices_.between(1, 4); n > 0; --n) {
    if (choices_.once_in(4))
      law_filters(law, c);
    else
      law_run(law, c);
  }
  settle(CALL(melspec_law_destroy, law), 0);
}

void World::law_filters(melspec_law *law, const melspec_law_config &c) {
  const int32_t channel =
      choices_.once_in(8) ? choices_.pick({-1, c.n_channels, INT_MIN, INT_MAX}) : static_cast<int32_t>(choices_.below(c.n_channels));
  const bool known = channel >= 0 && channel < c.n_channels;
  const int64_t count = known ? c.n_mels * (1 + c.channels[channel].n_fft / 2) : 8;
  Block<float> out(count);
  int32_t capacity = static_cast<int32_t>(count);
  float *to = out.data();
  if (choices_.once_in(8)) capacity = choices_.pick({capacity - 1, 0, INT_MIN});
  if (choices_.once_in(8)) to = choices_.once_in(2) ? nullptr : shifted(choices_, to);
  const int32_t written = CALL(melspec_law_filters, law, channel, to, capacity);
  settle(written, fault_if(!known, MELSPEC_ERROR_CHANNELS) | fault_if(known && capacity < count, MELSPEC_ERROR_CAPACITY) |
                      fault_if(to != out.data(), MELSPEC_ERROR_POINTER));
  check(out.untouched(written < 0 ? 0 : count), "a copy wrote where it must not");
  if (written < 0) return;
  for (int64_t i = 0; i < count; ++i) check(to[i] >= 0 && to[i] <= 1, "a weight is negative or too large", i);
  digest(to, out.bytes());
}

void World::law_run(melspec_law *law, const melspec_law_config &c) {
  const int64_t n_fft = c.channels[0].n_fft, hop = c.channels[0].hop_length;
  int64_t n = n_fft + hop * choices_.below(6) + choices_.between(-1, 2);
  if (n > kMostSamples || choices_.once_in(16)) n = choices_.between(0, 3 * n_fft);
  int64_t first = choices_.once_in(2) ? 0 : choices_.below(n + 1);
  if (frames_of(c, n - first) > 24) n = first + n_fft + std::min<int64_t>(23 * hop, 3000);
  if (choices_.once_in(24)) first = choices_.pick<int64_t>({-1, n + 1, INT_MIN, INT_MAX});
  const bool inside = first >= 0 && first <= n;
  const int64_t frames = inside ? frames_of(c, n - first) : 0, need = frames * c.n_mels * c.n_channels;
  if (need > kMostValues) return;
  if (inside) {
    const int32_t left = static_cast<int32_t>(n - first);
    check(CALL(melspec_law_frames, law, left) == frames, "the number of frames");
    check(CALL(melspec_law_bytes, law, left) == need * 4, "the number of bytes");
  }
  const int32_t odd = choices_.pick({-1, INT_MIN, INT_MAX, INT_MAX - 1});
  const int64_t many = odd < 0 ? 0 : frames_of(c, odd) * c.n_mels * c.n_channels * 4;
  settle(CALL(melspec_law_bytes, law, odd),
         fault_if(odd < 0, MELSPEC_ERROR_N_SAMPLES) | fault_if(many > INT_MAX, MELSPEC_ERROR_TOO_LONG));

  const Signal signal = make_signal(choices_, n);
  Block<float> out{need + choices_.pick({0, 0, 1, 7}), choices_.below(4)};
  const float *samples = signal.samples.data();
  float *to = out.data();
  int32_t capacity = static_cast<int32_t>(out.count()), count = static_cast<int32_t>(n);
  switch (choices_.below(24)) {
    case 0:
      capacity = choices_.pick({static_cast<int32_t>(need) - 1, 0, -1, INT_MIN});
      break;
    case 1:
      samples = choices_.once_in(2) ? nullptr : shifted(choices_, samples);
      break;
    case 2:
      to = choices_.once_in(2) ? nullptr : shifted(choices_, to);
      break;
    case 3:
      to = reinterpret_cast<float *>(law);
      break;
    case 4:
      to = const_cast<float *>(samples);
      break;
    case 5:
      count = choices_.pick({-1, INT_MIN});
      break;
  }
  const Faults faults = fault_if(frames < 1 || count < 0, MELSPEC_ERROR_N_SAMPLES) |
                        fault_if(!inside, MELSPEC_ERROR_FIRST_SAMPLE) | fault_if(capacity < need, MELSPEC_ERROR_CAPACITY) |
                        fault_if(samples != signal.samples.data() || to != out.data(), MELSPEC_ERROR_POINTER) |
                        fault_if(signal.bad >= 0, MELSPEC_ERROR_NOT_FINITE);
  const int32_t code = CALL(melspec_law_run, law, samples, count, static_cast<int32_t>(first), to, capacity);
  settle(code, faults);
  const int32_t bad = CALL(melspec_law_bad_sample, law);
  if (code == MELSPEC_ERROR_NOT_FINITE) check(bad == signal.bad, "the bad sample", bad, signal.bad);
  if (code < 0) {
    check(out.untouched(), "something was written on an error");
    return;
  }
  check(code == frames && bad == -1, "the number of frames of a run", code, frames);
  check(out.untouched(need), "a run wrote more than its frames");
  for (int64_t i = 0; i < need; ++i) check(std::isfinite(to[i]) && to[i] >= 0, "an output is negative or not finite", i);
  digest(to, need * 4);
  Block<float> again(need);
  CALL(melspec_law_run, law, samples, count, static_cast<int32_t>(first), again.data(), static_cast<int32_t>(need));
  check(again.same(to), "a second run gives other bits");
}

void World::laws_of_nobody() {
  alignas(64) static const char zeros[4096] = {};
  const uintptr_t blank = reinterpret_cast<uintptr_t>(zeros);
  const uintptr_t none = choices_.pick({uintptr_t{0}, blank, blank + 4, reinterpret_cast<uintptr_t>(any_plan().handle)});
  melspec_law *const law = reinterpret_cast<melspec_law *>(none);
  const Faults as_law = fault(MELSPEC_ERROR_LAW);
  Block<float> floats(8);
  settle(CALL(melspec_law_destroy, law), law ? as_law : 0);
  settle(CALL(melspec_law_frames, law, 8), as_law);
  settle(CALL(melspec_law_bytes, law, 8), as_law);
  settle(CALL(melspec_law_run, law, floats.data(), 4, 0, floats.data() + 4, 4), as_law);
  settle(CALL(melspec_law_filters, law, 0, floats.data(), 8), as_law);
  check(CALL(melspec_law_bad_sample, law) == MELSPEC_ERROR_LAW, "the bad sample of no law");
  check(floats.untouched(), "something was written on an error");
  check(call("melspec_law_config_size", melspec_law_config_size) == sizeof(melspec_law_config), "its size");

  Block<melspec_law_config> config(1);
  *config.data() = valid_law(choices_);
  Block<melspec_law *> made(2);
  const bool without = choices_.once_in(2), null = choices_.once_in(2);
  melspec_law **to = made.data();
  const melspec_law_config *from = config.data();
  if (without)
    to = null ? nullptr : shifted(choices_, to);
  else
    from = null ? nullptr : shifted(choices_, from);
  settle(CALL(melspec_law_create, from, to), fault(MELSPEC_ERROR_POINTER));
  check(without ? made.untouched() : !*to && made.untouched(1), "create wrote where it must not");
}

}  // namespace fuzz
