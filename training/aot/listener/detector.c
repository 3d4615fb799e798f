#include "detector.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "labous_hear.h"
#include "text.h"
#include "words.h"

typedef struct window {
  int64_t start, end; /* samples from the recording's beginning */
  float *logits;
  bool there;
} window;

struct detector {
  detector_options options;
  const char *name;
  int32_t size, labels;
  float *kept; /* samples from `origin` on: room for two windows */
  int64_t origin, count, start;
  window before, current; /* of smoothing */
  float *probabilities;
};

detector *detector_create(const detector_options *options) {
  detector *d = calloc(1, sizeof *d);
  if (!d) return NULL;
  d->options = *options;
  d->size = labous_hear_window_samples(), d->labels = labous_hear_labels();
  d->kept = malloc(2 * sizeof(float) * d->size);
  d->before.logits = malloc(sizeof(float) * d->labels);
  d->current.logits = malloc(sizeof(float) * d->labels);
  d->probabilities = malloc(sizeof(float) * d->labels);
  return d->kept && d->before.logits && d->current.logits && d->probabilities ? d : NULL;
}

void detector_begin(detector *d, const char *name) {
  d->name = name;
  d->origin = d->count = d->start = 0;
  d->before.there = d->current.there = false;
}

static void write_line(const detector *d, const window *w, int32_t label) {
  const double rate = labous_hear_sample_rate();
  fputs("{\"recording\": ", stdout);
  text_json(stdout, d->name);
  fputs(", \"start\": ", stdout);
  text_number(stdout, (double)w->start / rate);
  fputs(", \"end\": ", stdout);
  text_number(stdout, (double)w->end / rate);
  printf(", %s, \"score\": ", words_json[label]);
  text_number(stdout, d->probabilities[label]);
  fputs("}\n", stdout);
}

/* The likeliest first, of equals the one whose label comes first. */
static bool report(const detector *d, const window *w) {
  float *const left = d->probabilities;
  for (long n = 0; n < d->options.top_n; n++) {
    int32_t best = -1;
    for (int32_t i = 0; i < d->labels; i++) {
      const float least = isnan(d->options.min_score) ? labous_hear_threshold(i) : (float)d->options.min_score;
      if (left[i] >= least && (best < 0 || left[i] > left[best])) best = i;
    }
    if (best < 0) break;
    write_line(d, w, best);
    left[best] = -1;
  }
  if (fflush(stdout) == 0 && !ferror(stdout)) return true;
  if (errno == EPIPE) exit(0); /* whoever read has had enough */
  return text_complain("Cannot write: %s.", strerror(errno));
}

static bool score(const detector *d, const window *w, const float *before, const float *after) {
  const double weight = labous_hear_neighbor_weight();
  const float side = (float)weight, own = (float)(1 - 2 * weight);
  const float total = (own + (before ? side : 0)) + (after ? side : 0);
  for (int32_t i = 0; i < d->labels; i++) {
    float logit = w->logits[i];
    if (weight != 0) {
      logit *= own;
      if (before) logit += side * before[i];
      if (after) logit += side * after[i];
      logit /= total;
    }
    const float calibrated = labous_hear_scale(i) * logit + labous_hear_offset(i);
    d->probabilities[i] = (float)(1 / (1 + exp(-(double)calibrated)));
  }
  return report(d, w);
}

static bool hear(detector *d, int64_t start, int64_t end, const float *samples) {
  float *const room = labous_hear_samples();
  const size_t n = end - start;
  memcpy(room, samples, sizeof(float) * n);
  memset(room + n, 0, sizeof(float) * (d->size - n));
  const int32_t code = labous_hear();
  if (code != 0)
    return text_refuse(d->name, "cannot be heard at %.3f s: %s (%d).",
                       (double)start / labous_hear_sample_rate(), labous_hear_message(code), (int)code);
  window heard = {start, end, (float *)labous_hear_logits(), true};
  if (labous_hear_neighbor_weight() == 0) return score(d, &heard, NULL, NULL);
  if (d->current.there && !score(d, &d->current, d->before.there ? d->before.logits : NULL, heard.logits)) return false;
  float *const oldest = d->before.logits;
  d->before = d->current;
  heard.logits = memcpy(oldest, heard.logits, sizeof(float) * d->labels);
  d->current = heard;
  return true;
}

bool detector_push(detector *d, const float *mono, int64_t n) {
  while (n > 0) {
    const int64_t wanted = d->start + d->size - d->origin - d->count, taken = n < wanted ? n : wanted;
    memcpy(d->kept + d->count, mono, sizeof(float) * taken);
    d->count += taken, mono += taken, n -= taken;
    if (taken < wanted) return true;
    /* samples before the newest window are never needed again, not even by the last one */
    const int64_t past = d->start - d->origin;
    d->count -= past, d->origin += past;
    memmove(d->kept, d->kept + past, sizeof(float) * d->count);
    if (!hear(d, d->start, d->start + d->size, d->kept)) return false;
    d->start += d->options.step;
  }
  return true;
}

bool detector_end(detector *d) {
  const int64_t total = d->origin + d->count, heard = d->start - d->options.step + d->size;
  if (total < d->size) {
    if (total > 0 && !hear(d, 0, total, d->kept)) return false;
  } else if (total - heard >= labous_hear_tail_samples()) {
    if (!hear(d, total - d->size, total, d->kept + d->count - d->size)) return false;
  }
  return !d->current.there || score(d, &d->current, d->before.there ? d->before.logits : NULL, NULL);
}
