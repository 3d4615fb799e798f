#include "options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "labous_hear.h"
#include "text.h"

void options_help(void) {
  printf(
      "usage: labous [options] [RECORDING ...]\n"
      "\n"
      "Names the species in recordings at %d Hz: WAV of 16, 24 or 32 bits, or of floats. Without one, or where it is -,\n"
      "standard input. Writes a line of JSON for each detection, as labous analyze --format jsonl does.\n"
      "\n"
      "  --raw RATE[:CHANNELS[:FORMAT]]  the input has no header: 1 channel of s16le, or of s24le, s32le, f32le\n"
      "  --top-n N                       most species per window (3)\n"
      "  --min-score P                   lowest score, 0 to 1, for every species (the bundle's thresholds)\n"
      "  --overlap S                     overlap of one window with the next in seconds (0)\n"
      "  --labels                        print the table of species, and end\n"
      "  --version, --help\n"
      "\n"
      "A file is proved before anything of it is written. Of what comes through a pipe, each line is written as soon as\n"
      "its window is complete; what is wrong with it is told when it is met.\n"
      "\n"
      "  arecord -q -t raw -f S16_LE -r %d -c 1 | labous --raw %d\n"
      "\n"
      "exit codes: 0 all well; 1 a recording could not be used; 2 wrong usage\n",
      (int)labous_hear_sample_rate(), (int)labous_hear_sample_rate(), (int)labous_hear_sample_rate());
}

static bool wrong(const char *option, const char *wanted) {
  return text_complain("%s must be %s; see --help.", option, wanted);
}

static bool number(const char *text, double *value) {
  char *end;
  *value = strtod(text, &end);
  return end != text && *end == 0 && isfinite(*value);
}

static bool whole(const char *text, const char *ends, long lowest, long highest, long *value, const char **rest) {
  char *end;
  if (*text < '0' || *text > '9') return false;
  *value = strtol(text, &end, 10);
  *rest = end;
  return strchr(ends, *end) && *value >= lowest && *value <= highest;
}

static bool read_raw(const char *text, sample_format *raw) {
  static const struct {
    const char *name;
    int32_t bytes;
    bool floating;
  } formats[] = {{"s16le", 2, false}, {"s24le", 3, false}, {"s32le", 4, false}, {"f32le", 4, true}};
  long rate, channels = 1;
  if (!whole(text, ":", 1, 1000000, &rate, &text)) return false;
  if (*text && !whole(text + 1, ":", 1, RECORDING_CHANNELS, &channels, &text)) return false;
  const char *name = *text ? text + 1 : formats[0].name;
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
    if (strcmp(name, formats[i].name) == 0) {
      *raw = (sample_format){rate, channels, formats[i].bytes, formats[i].floating};
      return true;
    }
  return false;
}

static bool read_overlap(const char *text, int64_t *step) {
  double overlap;
  const double rate = labous_hear_sample_rate(), window = labous_hear_window_samples();
  const bool given = number(text, &overlap) && overlap >= 0 && overlap < window / rate;
  const double samples = given ? rint(overlap * rate) : -1;
  if (samples < 0 || samples >= window)
    return text_complain("--overlap must be at least 0 and less than a window (%g s); see --help.", window / rate);
  *step = (int64_t)(window - samples);
  return true;
}

static bool read_value(options *o, const char *option, const char *value) {
  const char *rest;
  if (strcmp(option, "--raw") == 0) {
    o->is_raw = true;
    return read_raw(value, &o->raw) || wrong(option, "RATE[:CHANNELS[:FORMAT]], 32000:1:s16le say");
  }
  if (strcmp(option, "--top-n") == 0)
    return whole(value, "", 1, 1000000, &o->detector.top_n, &rest) || wrong(option, "at least 1");
  if (strcmp(option, "--overlap") == 0) return read_overlap(value, &o->detector.step);
  return (number(value, &o->detector.min_score) && o->detector.min_score >= 0 && o->detector.min_score <= 1) ||
         wrong(option, "between 0 and 1");
}

bool options_read(options *o, int argc, char **argv) {
  static const char *const valued[] = {"--raw", "--top-n", "--overlap", "--min-score"};
  static const char *const tasks[] = {"--labels", "--version", "--help"};
  *o = (options){.detector = {.step = labous_hear_window_samples(), .top_n = 3, .min_score = NAN}};
  bool paths_only = false;
  for (int i = 1; i < argc; i++) {
    char *const given = argv[i];
    if (paths_only || given[0] != '-' || given[1] == 0) {
      argv[o->paths++] = given;
      continue;
    }
    if (strcmp(given, "--") == 0) {
      paths_only = true;
      continue;
    }
    bool known = false;
    for (size_t k = 0; k < sizeof tasks / sizeof *tasks; k++)
      if (strcmp(given, tasks[k]) == 0) o->task = OPTIONS_LABELS + k, known = true;
    for (size_t k = 0; k < sizeof valued / sizeof *valued && !known; k++) {
      const size_t length = strlen(valued[k]);
      if (strncmp(given, valued[k], length) != 0 || (given[length] != 0 && given[length] != '=')) continue;
      const char *value = given[length] ? given + length + 1 : ++i < argc ? argv[i] : "";
      if (!read_value(o, valued[k], value)) return false;
      known = true;
    }
    if (!known) {
      fputs("labous: There is no option ", stderr);
      text_json(stderr, given);
      fputs("; see --help.\n", stderr);
      return false;
    }
  }
  return true;
}
