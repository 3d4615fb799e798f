/* From samples to lines of JSON: windows, logits, smoothing, probabilities, thresholds, the best few. */
#ifndef LABOUS_DETECTOR_H
#define LABOUS_DETECTOR_H

#include <stdbool.h>
#include <stdint.h>

typedef struct detector_options {
  int64_t step;     /* samples from one window to the next */
  long top_n;       /* most detections of a window */
  double min_score; /* for every label; NaN: the bundle's thresholds */
} detector_options;

typedef struct detector detector;

/* One for all recordings; null where there is no memory. */
detector *detector_create(const detector_options *options);

/* Begins a recording. */
void detector_begin(detector *detector, const char *name);

/* Takes samples, and writes what each complete window shows to standard output. These say on standard error what is wrong, and
 * then give false. */
bool detector_push(detector *detector, const float *mono, int64_t n);

/* Ends a recording: its last window. */
bool detector_end(detector *detector);

#endif
