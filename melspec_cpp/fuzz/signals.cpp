#include "signals.h"

#include <cfloat>
#include <cmath>

namespace fuzz {
namespace {

constexpr uint32_t kExponent = 0x7f800000;

float finite_float(uint32_t bits) {
  if ((bits & kExponent) == kExponent) bits ^= 0x40000000;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

Signal make_signal(Choices &choices, int64_t count) {
  Signal signal{Block<float>(count, choices.below(4))};
  float *const x = signal.samples.data();
  const double scale = choices.pick({1.0, 1.0, 1.0, 1.0, 1.0, 1e-3, 1e-30, 1e-38, 1e-42, 1e15, 1e30, 3e38});
  const int64_t kind = choices.below(8), place = count > 0 ? choices.below(count) : 0;
  Choices noise = choices.apart();
  for (int64_t i = 0; i < count; ++i) {
    double value = scale;
    if (kind == 0) value = 0;
    if (kind == 1) value = i == place ? scale : -0.0;
    if (kind == 2) value = i % 2 ? -scale : scale;
    if (kind >= 4) value = scale * (2 * noise.unit() - 1);
    x[i] = kind == 3 ? finite_float(static_cast<uint32_t>(noise.bits(4))) : static_cast<float>(value);
    signal.tame = signal.tame && std::fabs(x[i]) <= 1e15f;
  }
  if (count > 0 && choices.once_in(10))
    for (int64_t n = choices.between(1, 3); n > 0; --n) {
      const int64_t at = choices.once_in(2) ? choices.below(count) : choices.pick({int64_t{0}, count - 1});
      const uint32_t bits =
          choices.pick({0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xffffffffu, 0x7f800000u, 0xff800000u});
      memcpy(x + at, &bits, sizeof bits);
      if (signal.bad < 0 || at < signal.bad) signal.bad = static_cast<int32_t>(at);
      signal.tame = false;
    }
  return signal;
}

}  // namespace fuzz
