// 10 log10 of vectors.
#pragma once

#include "vec.h"

namespace melspec {

// In place: 10 log10 of the larger of `least` and each value, or its square; within 5e-12 of the logarithm, exactly 0 for
// 1. `least` is a normal, positive number, and what is not below it finite.
void decibels(Vec *values, int count, double least, bool square);

}  // namespace melspec
