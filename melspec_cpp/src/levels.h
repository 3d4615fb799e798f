// What becomes of mel values: powers, or decibels against a reference, scaled.
#pragma once

#include "melspec.h"
#include "vec.h"

namespace melspec {

// A mel value's level is the value itself, or its decibels without a reference. Where the reference or the floor depends
// on the array's maximum, no output is final before the last level.
struct Levels {
  bool decibels;  // false: the output is the value
  bool relative;  // levels wait for finish(levels, ...)

  Levels(const melspec_config &config, melspec_output output);

  // Mel values to levels, in place.
  void apply(Vec *values, int count) const;
  // The output of a level that is not relative.
  Vec finish(Vec level) const { return (level - all(reference) + all(offset)) * all(scale); }
  // The outputs of a whole array of relative ones.
  void finish(const double *levels, int64_t count, float *out) const;

 private:
  bool magnitude, reference_is_max, has_top_db;
  double amin, top_db;
  double reference, offset, scale;  // 0, 0, 1 where the output is the value
};

}  // namespace melspec
