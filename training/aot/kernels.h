/* The operators of a model built ahead of time: what the generated C calls.
 *
 * Tensors are float32 and lie as TFLite has them: rows, columns, channels, the channels together. No operator reads or
 * writes beyond its tensors; inputs and output do not overlap. Weights come in panels of LABOUS_LANES output channels,
 * padded with zeros: LABOUS_LANES biases, then LABOUS_LANES weights for each tap of the kernel (row, column, and for
 * conv_2d channel). A panel is aligned to its vectors; everything else to 4 bytes.
 */
#ifndef LABOUS_KERNELS_H
#define LABOUS_KERNELS_H

#include <stdint.h>

#ifndef LABOUS_LANES
#define LABOUS_LANES 4 /* floats in a vector: 16 bytes, as NEON, SSE and SIMD128 have; 1 on RISC-V */
#endif

/* A window that slides over rows and columns; what it meets outside of the input is left out. */
typedef struct labous_window {
  int32_t in_h, in_w, in_c;
  int32_t out_h, out_w, out_c;
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t pad_top, pad_left;
  int32_t whole_first, whole_end; /* the columns of the output whose windows have no column outside: to before the end */
  int32_t block; /* of conv_2d: pixels that go through all weights before the next, at least 8 */
  float low, high; /* the activation: results are brought into this interval */
} labous_window;

/* A reduction of [outer, length, inner] to [outer, inner]. */
typedef struct labous_reduction {
  int32_t outer, length, inner;
} labous_reduction;

/* Elements of up to four dimensions; strides in floats, the last one 1, or 0 where an input repeats itself. */
typedef struct labous_elements {
  int32_t shape[4];
  int32_t a[4], b[4], out[4];
  float low, high; /* not of labous_copy */
} labous_elements;

void labous_conv_2d(const labous_window *window, const float *in, const float *panels, float *out);
void labous_depthwise_conv_2d(const labous_window *window, const float *in, const float *panels, float *out);
void labous_average_pool_2d(const labous_window *window, const float *in, float *out);
void labous_max_pool_2d(const labous_window *window, const float *in, float *out);
void labous_mean(const labous_reduction *reduction, const float *in, float *out);
void labous_reduce_max(const labous_reduction *reduction, const float *in, float *out);
void labous_add(const labous_elements *elements, const float *a, const float *b, float *out);
void labous_copy(const labous_elements *elements, const float *a, float *out);

#endif
