// Configurations: right ones, wrong ones, and what is wrong with them.
#pragma once

#include "calls.h"
#include "choices.h"

namespace fuzz {

// Most of them cheap: short frames, few bands.
melspec_config valid_config(Choices &choices);

// A valid one with one field, or a few bytes, replaced; or nothing but random bytes.
melspec_config doubtful_config(Choices &choices);

// What melspec.h objects to. `may` is what it leaves open: whether rounding keeps the edges of the bands apart.
struct Verdict {
  Faults must, may;
};
Verdict verdict(const melspec_config &config);

// Whether an output depends on all the others.
bool is_relative(const melspec_config &config, int32_t output);

// Whether finite samples within +-1e15 must give finite outputs.
bool is_tame(const melspec_config &config);

}  // namespace fuzz
