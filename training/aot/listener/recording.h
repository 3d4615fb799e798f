/* A recording: WAV or bare samples, from a file or a pipe, averaged to mono as it comes. */
#ifndef LABOUS_RECORDING_H
#define LABOUS_RECORDING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { RECORDING_BLOCK = 1 << 16, RECORDING_CHANNELS = 1024 };

/* How samples are written, little-endian. */
typedef struct sample_format {
  int32_t rate; /* Hz */
  int32_t channels;
  int32_t bytes; /* of a sample: 2, 3 or 4 */
  bool floating; /* float32; else integers */
} sample_format;

typedef struct recording {
  const char *name;
  int file;
  bool passing;         /* what is read is gone: a pipe, a terminal, a device */
  sample_format format;
  int64_t begin;        /* where the samples begin in a file */
  int64_t promised;     /* bytes of them, or -1: to the end */
  int64_t got;          /* bytes read of them */
  int64_t frames;       /* given so far */
  float lowest, highest;
  int held; /* bytes in the buffer */
  unsigned char buffer[RECORDING_BLOCK];
} recording;

/* Opens a path, or standard input where it is null. `raw` is the format of samples without a header, or null for WAV. Each
 * of these functions says on standard error why it refuses, and then gives false, or -1. */
bool recording_open(recording *recording, const char *path, const sample_format *raw, int32_t rate);

/* Reads some mono samples, at most RECORDING_BLOCK / 2, as soon as there are any; 0 at the end. */
ssize_t recording_read(recording *recording, float *mono);

/* Whether what has been read to the end is all that was promised, and no silence. */
bool recording_check(const recording *recording);

/* Goes back to the first sample, where nothing is passing. */
bool recording_rewind(recording *recording);

void recording_close(recording *recording);

#endif
