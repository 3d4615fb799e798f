// What a configuration must satisfy, and the words for what it does not.
#pragma once

#include "melspec.h"

namespace melspec {

int32_t check(const melspec_config &config);  // MELSPEC_OK or a code
const char *message(int32_t code);

}  // namespace melspec
