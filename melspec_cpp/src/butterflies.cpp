#include "butterflies.h"

#include "cold.h"

namespace melspec {

MELSPEC_COLD void fill_orders(uint16_t *order) {
  for (int blocks = 1; blocks <= 64; blocks *= 4)
    for (int block = 0; block < blocks; ++block, ++order) {
      *order = 0;
      for (int left = block, weight = blocks; weight > 1; left /= 4, weight /= 4) *order += left % 4 * weight;
    }
}

}  // namespace melspec
