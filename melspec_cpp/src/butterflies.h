// What complex transforms of vectors are made of, and the order in which decimation in frequency leaves their outputs.
#pragma once

#include "vec.h"

namespace melspec {

inline Four transform4(Complex a, Complex b, Complex c, Complex d) {
  Complex even = a + c, odd = a - c, sum = b + d, turned = minus_i_times(b - d);
  return {even + sum, odd + turned, even - sum, odd - turned};
}

inline void transform8(Complex *x) {
  const Vec half_root = all(0x1.6a09e667f3bcdp-1);  // sqrt(1/2)
  Four even = transform4(x[0], x[2], x[4], x[6]), odd = transform4(x[1], x[3], x[5], x[7]);
  Complex o1 = {(odd.y1.re + odd.y1.im) * half_root, (odd.y1.im - odd.y1.re) * half_root};
  Complex o2 = minus_i_times(odd.y2);
  Complex o3 = {(odd.y3.im - odd.y3.re) * half_root, -((odd.y3.re + odd.y3.im) * half_root)};
  x[0] = even.y0 + odd.y0;
  x[1] = even.y1 + o1;
  x[2] = even.y2 + o2;
  x[3] = even.y3 + o3;
  x[4] = even.y0 - odd.y0;
  x[5] = even.y1 - o1;
  x[6] = even.y2 - o2;
  x[7] = even.y3 - o3;
}

// Four times the number of each block, its digits to the base 4 in reverse, for 1, 4, 16 and 64 blocks.
constexpr int kOrders = 1 + 4 + 16 + 64;
void fill_orders(uint16_t *order);  // [kOrders]
// Of them, those of so many blocks.
inline const uint16_t *order_of(const uint16_t *order, int blocks) { return order + (blocks - 1) / 3; }

}  // namespace melspec
