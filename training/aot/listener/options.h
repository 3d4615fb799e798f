/* The command line. */
#ifndef LABOUS_OPTIONS_H
#define LABOUS_OPTIONS_H

#include "detector.h"
#include "recording.h"

typedef struct options {
  enum { OPTIONS_HEAR, OPTIONS_LABELS, OPTIONS_VERSION, OPTIONS_HELP } task;
  detector_options detector;
  bool is_raw;
  sample_format raw;
  int paths; /* how many; they are moved to the front of argv */
} options;

/* Says on standard error what cannot be, and then gives false. */
bool options_read(options *options, int argc, char **argv);

void options_help(void);

#endif
