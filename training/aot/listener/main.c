/* labous-<machine>: recordings in, lines of JSON out, with one bundle inside. docs/hear.md describes it. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "detector.h"
#include "labous_hear.h"
#include "options.h"
#include "recording.h"
#include "text.h"
#include "words.h"

static float mono[RECORDING_BLOCK / 2];

/* A file is read twice, so that nothing is written of one that turns out to be damaged at its end. */
static bool proved(recording *r) {
  ssize_t n;
  while ((n = recording_read(r, mono)) > 0) continue;
  return n == 0 && recording_check(r) && recording_rewind(r);
}

static bool heard(detector *d, recording *r) {
  ssize_t n;
  if (!r->passing && !proved(r)) return false;
  detector_begin(d, r->name);
  while ((n = recording_read(r, mono)) > 0)
    if (!detector_push(d, mono, n)) return false;
  return n == 0 && recording_check(r) && detector_end(d);
}

static int listen_to(const options *o, char **paths) {
  static recording r;
  static char standard_input[] = "-", *only[] = {standard_input};
  const int count = o->paths ? o->paths : 1;
  int bad = 0;
  const int32_t code = labous_hear_open();
  detector *const d = code == 0 ? detector_create(&o->detector) : NULL;
  if (!d) return text_complain("%s.", code ? labous_hear_message(code) : "There is not enough memory"), 1;
  if (labous_hear_synthetic())
    text_complain("'%s' was trained on synthetic sound (%s): its results say nothing about real birds.",
                  labous_hear_name(), words_dataset);
  for (int i = 0; i < count; i++) {
    char *const path = (o->paths ? paths : only)[i];
    const bool standard = strcmp(path, "-") == 0; // ./- is a file
    if (*path) text_path(path);
    if (!recording_open(&r, standard ? NULL : path, o->is_raw ? &o->raw : NULL, labous_hear_sample_rate()) ||
        !heard(d, &r))
      bad++;
    recording_close(&r);
  }
  if (bad) text_complain("%d of %d recordings could not be analyzed.", bad, count);
  return bad ? 1 : 0;
}

int main(int argc, char **argv) {
  options o;
  signal(SIGPIPE, SIG_IGN);
  if (!options_read(&o, argc, argv)) return 2;
  if (o.task == OPTIONS_HEAR) {
    if (o.paths || !isatty(STDIN_FILENO)) return listen_to(&o, argv);
    text_complain("Give a recording, or pipe one to standard input; see --help.");
    return 2;
  }
  if (o.task == OPTIONS_HELP) options_help();
  if (o.task == OPTIONS_LABELS) fputs(words_table, stdout);
  if (o.task == OPTIONS_VERSION)
    printf("labous %s, bundle %s %s, model %s\n", words_runtime, labous_hear_name(), labous_hear_version(),
           labous_hear_source());
  return fflush(stdout) == 0 || errno == EPIPE ? 0 : (text_complain("Cannot write: %s.", strerror(errno)), 1);
}
