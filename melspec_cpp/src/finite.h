// NaN and infinity among samples.
#pragma once

#include <stdint.h>

namespace melspec {

// Index of the first sample that is NaN or infinite, or -1.
int32_t first_not_finite(const float *samples, int32_t n);

}  // namespace melspec
