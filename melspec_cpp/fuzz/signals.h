// Memory to hand over, and samples in it.
#pragma once

#include <memory>

#include "calls.h"
#include "choices.h"

namespace fuzz {

// `count` elements that end where their heap block ends, so that the sanitizer sees one too many. `offset` more before
// them move the first one off the heap's own alignment.
template <typename T>
class Block {
 public:
  explicit Block(int64_t count, int64_t offset = 0)
      : memory_(new T[static_cast<size_t>(count + offset)]), offset_(offset), count_(count) {
    memset(data(), kUnwritten, static_cast<size_t>(count) * sizeof(T));
  }
  T *data() const { return memory_.get() + offset_; }
  int64_t count() const { return count_; }
  int64_t bytes() const { return count_ * static_cast<int64_t>(sizeof(T)); }
  // Whether nothing was written from element `first` on.
  bool untouched(int64_t first = 0) const {
    const unsigned char *const all = reinterpret_cast<const unsigned char *>(data());
    for (int64_t i = first * static_cast<int64_t>(sizeof(T)); i < bytes(); ++i)
      if (all[i] != kUnwritten) return false;
    return true;
  }
  bool same(const T *others) const { return memcmp(data(), others, static_cast<size_t>(bytes())) == 0; }

 private:
  static constexpr int kUnwritten = 0xa5;
  std::unique_ptr<T[]> memory_;
  int64_t offset_, count_;
};

struct Signal {
  Block<float> samples;
  int32_t bad = -1;  // index of the first one that is not finite
  bool tame = true;  // finite, and within +-1e15
};

Signal make_signal(Choices &choices, int64_t count);

}  // namespace fuzz
