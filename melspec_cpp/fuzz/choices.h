// Where every decision of the fuzzer comes from: a seed, or the bytes of a fuzzing engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace fuzz {

class Choices {
 public:
  explicit Choices(uint64_t seed) : state_(seed) {}
  Choices(const uint8_t *bytes, size_t count) : bytes_(bytes), left_(count), from_bytes_(true) {}

  // Whether the bytes have run out; only zeros follow. A seed never does.
  bool spent() const { return from_bytes_ && left_ == 0; }

  uint64_t bits(int bytes = 8) {
    if (!from_bytes_) return next() >> (64 - 8 * bytes);
    uint64_t value = 0;
    for (; bytes > 0 && left_ > 0; --bytes, --left_) value = value << 8 | *bytes_++;
    return value;
  }
  // 0 ... n - 1
  int64_t below(int64_t n) {
    const uint64_t most = static_cast<uint64_t>(n);
    return static_cast<int64_t>(bits(most <= 1u << 8 ? 1 : most <= 1u << 16 ? 2 : 8) % most);
  }
  int64_t between(int64_t least, int64_t most) { return least + below(most - least + 1); }
  bool once_in(int64_t n) { return below(n) == n - 1; }
  // 0 <= x < 1
  double unit() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  template <typename T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int64_t>(values.size()))];
  }
  // A generator of its own, for what is long and has no structure.
  Choices apart() { return Choices(bits(4)); }

 private:
  // SplitMix64 (Steele, Lea & Flood 2014).
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }

  uint64_t state_ = 0;
  const uint8_t *bytes_ = nullptr;
  size_t left_ = 0;
  bool from_bytes_ = false;
};

}  // namespace fuzz
