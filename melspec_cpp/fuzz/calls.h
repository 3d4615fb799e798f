// Every call of the library goes through here: counted, traced if wanted, its code noted.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include "melspec.h"

namespace fuzz {

constexpr int kCodes = 1 - MELSPEC_ERROR_FIRST_SAMPLE;

// Mistakes made on purpose, to see that they are found.
enum class Plant { kNone, kShort, kZone, kOverflow, kLeak, kBits, kWritten, kCode };

struct Record {
  int64_t calls = 0;
  int64_t codes[kCodes] = {};  // how often each was seen, by its negative
  uint64_t digest = 0xcbf29ce484222325;
  const char *last = "none";
  bool trace = false;
  Plant plant = Plant::kNone;
};
extern Record record;

// What the library's next allocation meets.
struct Memory {
  bool refuse_next = false;
  bool refused = false;  // since it was last set to false
  int64_t largest = 0;   // bytes given since then
};
extern Memory memory;

// Says what does not hold, and aborts.
[[noreturn]] void fail(const char *what, int64_t found = 0, int64_t expected = 0);

inline void check(bool holds, const char *what, int64_t found = 0, int64_t expected = 0) {
  if (!holds) fail(what, found, expected);
}

// A set of error codes.
using Faults = uint64_t;
constexpr Faults fault(int32_t code) { return Faults{1} << -code; }
constexpr Faults fault_if(bool holds, int32_t code) { return holds ? fault(code) : 0; }

// A result is a count where nothing is wrong, else the code of one of the things that are wrong.
inline void settle(int32_t result, Faults faults) {
  const bool wrong = result < 0;
  check(wrong == (faults != 0) && (!wrong || (result > -kCodes && (fault(result) & faults))),
        "the code is not one of those that the arguments deserve, a set of bits", result,
        static_cast<int64_t>(faults));
}

// Results of one seed are compared between builds. Which NaN it is may differ.
inline void digest(const void *values, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 4) {
    uint32_t word;
    memcpy(&word, static_cast<const char *>(values) + i, 4);
    if ((word & 0x7fffffff) > 0x7f800000) word = 0x7fc00000;
    record.digest = (record.digest ^ word) * 0x100000001b3;
  }
}

inline void show(int32_t value) { fprintf(stderr, " %d", value); }
inline void show(const void *value) { fprintf(stderr, " %p", value); }

template <typename Result, typename... Parameters, typename... Arguments>
Result call(const char *name, Result (*function)(Parameters...), Arguments... arguments) {
  ++record.calls;
  record.last = name;
  if (record.trace) {
    fprintf(stderr, "%s", name);
    (show(arguments), ...);
    fputc('\n', stderr);
  }
  if constexpr (std::is_void_v<Result>) {
    function(arguments...);
  } else {
    Result result = function(arguments...);
    if constexpr (std::is_same_v<Result, int32_t>) {
      check(result > -kCodes, "no documented code", result);
      if (result <= 0) ++record.codes[-result];
      digest(&result, sizeof result);
      if (record.trace) fprintf(stderr, "  = %d\n", result);
    }
    return result;
  }
}

}  // namespace fuzz

#define CALL(name, ...) ::fuzz::call(#name, name, ##__VA_ARGS__)
