// What complex transforms of vectors are made of, and the order in which decimation in frequency leaves their outputs.
#pragma once

#include "vec.h"

namespace melspec {

inline Four transform4(Complex a, Complex b, Complex c, Complex d) {
  Complex even = a + c, odd = a - c, sum = b + d, turned = minus_i_times(b - d);
  return {even + sum, odd + turned, even - sum, odd - turned};
}

// Four times the number of each block, its digits to the base 4 in reverse, for 1, 4, 16 and 64 blocks.
constexpr int kOrders = 1 + 4 + 16 + 64;
void fill_orders(uint16_t *order);  // [kOrders]
// Of them, those of so many blocks.
inline const uint16_t *order_of(const uint16_t *order, int blocks) { return order + (blocks - 1) / 3; }

}  // namespace melspec
