/* The operators, over vectors of GCC's and Clang's C: see kernels.h. */

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

enum { LANES = LABOUS_LANES };

typedef float vec __attribute__((vector_size(4 * LABOUS_LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LABOUS_LANES)));
typedef float loose __attribute__((vector_size(4 * LABOUS_LANES), aligned(4)));

/* A convolution computes PIXELS pixels of PANELS panels at a time, so that its sums stay in registers: as many as there
 * are, less a panel's weights and what the pixels hold. BY_LANE: a value is multiplied out of the vector it was loaded
 * with, for which ARM has an instruction; elsewhere it is loaded into all lanes. */
#if defined(LABOUS_PIXELS)
#elif LABOUS_LANES == 1
#define LABOUS_PIXELS 6 /* 32 registers, as RISC-V has them */
#define LABOUS_PANELS 4
#elif defined(__aarch64__)
#define LABOUS_PIXELS 8 /* 32 registers */
#define LABOUS_PANELS 2
#define LABOUS_BY_LANE 1
#elif defined(__ARM_NEON)
#define LABOUS_PIXELS 4 /* 16 registers */
#define LABOUS_PANELS 2
#define LABOUS_BY_LANE 1
#elif defined(__AVX__)
#define LABOUS_PIXELS 4
#define LABOUS_PANELS 2
#else
#define LABOUS_PIXELS 2 /* SSE and SIMD128: a splat costs as much as a product */
#define LABOUS_PANELS 4
#endif
#ifndef LABOUS_BY_LANE
#define LABOUS_BY_LANE 0
#endif

enum { PIXELS = LABOUS_PIXELS, PANELS = LABOUS_PANELS };

/* Pixels of a depthwise convolution that share its weights. */
enum { AT_ONCE = 4 };

INLINE vec splat(float value) {
  return value - (vec){0};
}

/* The first `count` floats at `from`, zeros after them. */
INLINE vec load(const float *from, int32_t count) {
  if (count >= LANES) return *(const loose *)from;
  vec values = {0};
  for (int32_t i = 0; i < count; i++) values[i] = from[i];
  return values;
}

INLINE void store(float *to, vec values, int32_t count) {
  if (count >= LANES) {
    *(loose *)to = values;
  } else {
    for (int32_t i = 0; i < count; i++) to[i] = values[i];
  }
}

#if LABOUS_LANES == 1
INLINE vec larger(vec a, vec b) {
  return splat(__builtin_fmaxf(a[0], b[0]));
}

INLINE vec smaller(vec a, vec b) {
  return splat(__builtin_fminf(a[0], b[0]));
}
#else
INLINE vec choose(mask which, vec yes, vec no) {
  return (vec)((which & (mask)yes) | (~which & (mask)no));
}

INLINE vec larger(vec a, vec b) {
  return choose(a < b, b, a);
}

INLINE vec smaller(vec a, vec b) {
  return choose(a > b, b, a);
}
#endif

INLINE vec clamp(vec values, float low, float high) {
  return smaller(larger(values, splat(low)), splat(high));
}

INLINE int32_t least(int32_t a, int32_t b) {
  return a < b ? a : b;
}

INLINE int32_t most(int32_t a, int32_t b) {
  return a > b ? a : b;
}

/* From the first to before the end. */
typedef struct range {
  int32_t first, end;
} range;

/* The taps of a window, `kernel` long, that lie inside of an input when it begins at `start`. */
INLINE range taps_inside(int32_t start, int32_t kernel, int32_t size) {
  return (range){most(0, -start), least(kernel, size - start)};
}

/* How a convolution goes through memory, in floats. The taps of one kernel row lie side by side in the input. */
typedef struct steps {
  int32_t in_pixel, in_row, out_pixel; /* from one pixel of the output to the next, from one kernel row to the next */
  int32_t panel, row;                  /* from one panel of weights to the next, from one kernel row to the next */
  int32_t rows, length;                /* kernel rows, and taps of each */
  float low, high;
} steps;

/* `pixels` pixels of `panels` panels, of which `columns` channels are stored. Inlined, with constants for both. */
INLINE void tile(const int pixels, const int panels, const steps *by, const float *in, const float *bias,
                 const float *weights, float *out, int32_t columns) {
  vec sums[PIXELS][PANELS];
  UNROLL for (int i = 0; i < pixels; i++)
    UNROLL for (int p = 0; p < panels; p++) sums[i][p] = *(const vec *)(bias + p * by->panel);
  for (int32_t row = 0; row < by->rows; row++) {
    const float *from = in + row * by->in_row;
    const float *by_weight = weights + row * by->row;
    int32_t k = 0;
#if LABOUS_BY_LANE
    for (; k + LANES <= by->length; k += LANES) {
      vec values[PIXELS];
      UNROLL for (int i = 0; i < pixels; i++) values[i] = *(const loose *)(from + i * by->in_pixel + k);
      UNROLL for (int lane = 0; lane < LANES; lane++, by_weight += LANES) {
        vec factors[PANELS];
        UNROLL for (int p = 0; p < panels; p++) factors[p] = *(const vec *)(by_weight + p * by->panel);
        UNROLL for (int i = 0; i < pixels; i++)
          UNROLL for (int p = 0; p < panels; p++) sums[i][p] += splat(values[i][lane]) * factors[p];
      }
    }
#endif
    for (; k < by->length; k++, by_weight += LANES) {
      vec factors[PANELS];
      UNROLL for (int p = 0; p < panels; p++) factors[p] = *(const vec *)(by_weight + p * by->panel);
      UNROLL for (int i = 0; i < pixels; i++) {
        vec value = splat(from[i * by->in_pixel + k]);
        UNROLL for (int p = 0; p < panels; p++) sums[i][p] += value * factors[p];
      }
    }
  }
  const float low = by->low, high = by->high;
  const int32_t out_pixel = by->out_pixel;
  UNROLL for (int i = 0; i < pixels; i++)
    UNROLL for (int p = 0; p < panels; p++)
      store(out + i * out_pixel + p * LANES, clamp(sums[i][p], low, high), columns - p * LANES);
}

/* All panels of some neighboring pixels; `pixels` is PIXELS or 1. */
INLINE void all_panels(const int pixels, const steps *by, const float *in, int32_t count, const float *panels,
                       int32_t skip, float *out, int32_t channels) {
  int32_t c = 0;
  for (; c + PANELS * LANES <= channels; c += PANELS * LANES, panels += PANELS * by->panel)
    for (int32_t x = 0; x < count; x += pixels) {
      int32_t at = least(x, count - pixels); /* the last ones are computed twice rather than one by one */
      tile(pixels, PANELS, by, in + at * by->in_pixel, panels, panels + skip, out + at * by->out_pixel + c,
           PANELS * LANES);
    }
  for (; c < channels; c += LANES, panels += by->panel)
    for (int32_t x = 0; x < count; x += pixels) {
      int32_t at = least(x, count - pixels);
      tile(pixels, 1, by, in + at * by->in_pixel, panels, panels + skip, out + at * by->out_pixel + c, channels - c);
    }
}

static void many(const steps *by, const float *in, int32_t count, const float *panels, int32_t skip, float *out,
                 int32_t channels) {
  all_panels(PIXELS, by, in, count, panels, skip, out, channels);
}

static void few(const steps *by, const float *in, int32_t count, const float *panels, int32_t skip, float *out,
                int32_t channels) {
  all_panels(1, by, in, count, panels, skip, out, channels);
}

void labous_conv_2d(const labous_window *w, const float *in, const float *panels, float *out) {
  int32_t width = w->kernel_w * w->in_c;
  steps by = {
      .in_pixel = w->stride_w * w->in_c,
      .in_row = w->in_w * w->in_c,
      .out_pixel = w->out_c,
      .panel = (1 + w->kernel_h * width) * LANES,
      .row = width * LANES,
      .low = w->low,
      .high = w->high,
  };
  for (int32_t y = 0; y < w->out_h; y++, out += w->out_w * w->out_c) {
    int32_t top = y * w->stride_h - w->pad_top;
    range rows = taps_inside(top, w->kernel_h, w->in_h);
    const float *line = in + (top + rows.first) * by.in_row;
    by.rows = rows.end - rows.first;
    for (int32_t x = 0; x < w->out_w;) {
      int32_t left = x * w->stride_w - w->pad_left;
      range taps = taps_inside(left, w->kernel_w, w->in_w);
      int32_t skip = (1 + rows.first * width + taps.first * w->in_c) * LANES;
      int32_t count = x >= w->whole_first && x < w->whole_end ? least(w->block, w->whole_end - x) : 1;
      by.length = (taps.end - taps.first) * w->in_c;
      /* what is left of a line joins its last block, so that it is not computed pixel by pixel */
      if (count > 1 && w->whole_end - x - count < PIXELS) count = w->whole_end - x;
      (count < PIXELS ? few : many)(&by, line + (left + taps.first) * w->in_c, count, panels, skip,
                                    out + x * w->out_c, w->out_c);
      x += count;
    }
  }
}

/* `pixels` neighboring pixels of one panel, whose first window begins at in[start], which may lie before the input; taps
 * do not. Inlined, with constants for what is known of the kernel. */
INLINE void depthwise_tile(const int pixels, const labous_window *w, const int kernel_w, const int stride_w,
                           const float *in, int32_t start, range rows, range taps, const float *panel, float *out,
                           int32_t columns) {
  vec sums[AT_ONCE];
  UNROLL for (int i = 0; i < pixels; i++) sums[i] = *(const vec *)panel;
  for (int32_t row = rows.first; row < rows.end; row++) {
    const float *from = in + (start + (row * w->in_w + taps.first) * w->in_c);
    const float *weights = panel + (1 + row * kernel_w + taps.first) * LANES;
    for (int32_t tap = 0; tap < taps.end - taps.first; tap++) {
      vec weight = *(const vec *)(weights + tap * LANES);
      UNROLL for (int i = 0; i < pixels; i++)
        sums[i] += load(from + (i * stride_w + tap) * w->in_c, columns) * weight;
    }
  }
  const float low = w->low, high = w->high;
  const int32_t channels = w->in_c;
  UNROLL for (int i = 0; i < pixels; i++) store(out + i * channels, clamp(sums[i], low, high), columns);
}

/* One line of the output; the windows of its first column begin in row `top` of the input. */
INLINE void depthwise_line(const labous_window *w, const int kernel_w, const int stride_w, const float *in, int32_t top,
                           const float *panels, float *out) {
  int32_t channels = w->in_c, step = (1 + w->kernel_h * kernel_w) * LANES;
  range rows = taps_inside(top, w->kernel_h, w->in_h);
  for (int32_t x = 0; x < w->out_w;) {
    int32_t left = x * stride_w - w->pad_left, start = (top * w->in_w + left) * channels;
    const float *panel = panels;
    float *to = out + x * channels;
    int32_t c = 0;
    if (x >= w->whole_first && x + AT_ONCE <= w->whole_end) {
      range taps = {0, kernel_w};
      for (; c + LANES <= channels; c += LANES, panel += step)
        depthwise_tile(AT_ONCE, w, kernel_w, stride_w, in, start + c, rows, taps, panel, to + c, LANES);
      if (c < channels)
        depthwise_tile(AT_ONCE, w, kernel_w, stride_w, in, start + c, rows, taps, panel, to + c, channels - c);
      x += AT_ONCE;
    } else {
      range taps = taps_inside(left, kernel_w, w->in_w);
      for (; c < channels; c += LANES, panel += step)
        depthwise_tile(1, w, kernel_w, stride_w, in, start + c, rows, taps, panel, to + c, channels - c);
      x += 1;
    }
  }
}

void labous_depthwise_conv_2d(const labous_window *w, const float *in, const float *panels, float *out) {
  for (int32_t y = 0; y < w->out_h; y++, out += w->out_w * w->out_c) {
    int32_t top = y * w->stride_h - w->pad_top;
    if (w->kernel_w == 3 && w->stride_w == 1)
      depthwise_line(w, 3, 1, in, top, panels, out);
    else if (w->kernel_w == 3 && w->stride_w == 2)
      depthwise_line(w, 3, 2, in, top, panels, out);
    else
      depthwise_line(w, w->kernel_w, w->stride_w, in, top, panels, out);
  }
}

INLINE void pool(const int averages, const labous_window *w, const float *in, float *out) {
  for (int32_t y = 0; y < w->out_h; y++) {
    int32_t top = y * w->stride_h - w->pad_top;
    range rows = taps_inside(top, w->kernel_h, w->in_h);
    for (int32_t x = 0; x < w->out_w; x++, out += w->out_c) {
      int32_t left = x * w->stride_w - w->pad_left;
      range taps = taps_inside(left, w->kernel_w, w->in_w);
      vec count = splat((float)((rows.end - rows.first) * (taps.end - taps.first)));
      for (int32_t c = 0; c < w->in_c; c += LANES) {
        vec result = splat(averages ? 0 : -__builtin_inff());
        for (int32_t row = rows.first; row < rows.end; row++)
          for (int32_t tap = taps.first; tap < taps.end; tap++) {
            vec value = load(in + ((top + row) * w->in_w + left + tap) * w->in_c + c, w->in_c - c);
            result = averages ? result + value : larger(result, value);
          }
        if (averages) result /= count;
        store(out + c, clamp(result, w->low, w->high), w->in_c - c);
      }
    }
  }
}

void labous_average_pool_2d(const labous_window *window, const float *in, float *out) {
  pool(1, window, in, out);
}

void labous_max_pool_2d(const labous_window *window, const float *in, float *out) {
  pool(0, window, in, out);
}

INLINE void reduce(const int averages, const labous_reduction *r, const float *in, float *out) {
  for (int32_t o = 0; o < r->outer; o++, in += r->length * r->inner, out += r->inner)
    for (int32_t c = 0; c < r->inner; c += LANES) {
      vec result = load(in + c, r->inner - c);
      for (int32_t i = 1; i < r->length; i++) {
        vec value = load(in + i * r->inner + c, r->inner - c);
        result = averages ? result + value : larger(result, value);
      }
      if (averages) result /= splat((float)r->length);
      store(out + c, result, r->inner - c);
    }
}

void labous_mean(const labous_reduction *reduction, const float *in, float *out) {
  reduce(1, reduction, in, out);
}

void labous_reduce_max(const labous_reduction *reduction, const float *in, float *out) {
  reduce(0, reduction, in, out);
}

void labous_add(const labous_elements *e, const float *a, const float *b, float *out) {
  for (int32_t i = 0; i < e->shape[0]; i++)
    for (int32_t j = 0; j < e->shape[1]; j++)
      for (int32_t k = 0; k < e->shape[2]; k++) {
        const float *from_a = a + i * e->a[0] + j * e->a[1] + k * e->a[2];
        const float *from_b = b + i * e->b[0] + j * e->b[1] + k * e->b[2];
        float *to = out + i * e->out[0] + j * e->out[1] + k * e->out[2];
        for (int32_t n = 0; n < e->shape[3]; n += LANES) {
          int32_t left = e->shape[3] - n;
          vec x = e->a[3] ? load(from_a + n, left) : splat(*from_a);
          vec y = e->b[3] ? load(from_b + n, left) : splat(*from_b);
          store(to + n, clamp(x + y, e->low, e->high), left);
        }
      }
}

void labous_copy(const labous_elements *e, const float *a, float *out) {
  for (int32_t i = 0; i < e->shape[0]; i++)
    for (int32_t j = 0; j < e->shape[1]; j++)
      for (int32_t k = 0; k < e->shape[2]; k++) {
        const float *from = a + i * e->a[0] + j * e->a[1] + k * e->a[2];
        float *to = out + i * e->out[0] + j * e->out[1] + k * e->out[2];
        for (int32_t n = 0; n < e->shape[3]; n += LANES) {
          int32_t left = e->shape[3] - n;
          store(to + n, e->a[3] ? load(from + n, left) : splat(*from), left);
        }
      }
}
