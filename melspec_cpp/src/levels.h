// What becomes of mel values: powers, or decibels against a reference, scaled.
#pragma once

#include "decibels.h"
#include "melspec.h"
#include "vec.h"

namespace melspec {

// A mel value's level is the value itself, or its decibels without a reference. Where the reference or the floor depends
// on the array's maximum, no output is final before the last level.
struct Levels {
  bool decibels;  // false: the output is the value
  bool relative;  // levels wait for finish(levels, ...)

  Levels(const melspec_config &config, melspec_output output);

  Vec level(Vec value) const {
    if (!decibels) return value;
    return melspec::decibels(larger(all(amin), magnitude ? value * value : value));
  }
  // The output of a level that is not relative.
  Floats finish(Vec level) const {
    if (!decibels) return __builtin_convertvector(level, Floats);
    return __builtin_convertvector((level - all(reference) + all(offset)) * all(scale), Floats);
  }
  // The outputs of a whole array of relative ones.
  void finish(const double *levels, int64_t count, float *out) const;

 private:
  bool magnitude, reference_is_max, has_top_db;
  double amin, reference, top_db, offset, scale;
};

}  // namespace melspec
