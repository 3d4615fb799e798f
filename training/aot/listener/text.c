#include "text.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The next character and its bytes; of what is no UTF-8, a byte as a lone surrogate. */
static uint32_t next(const unsigned char *text, int *bytes) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const int n = *text < 0x80 ? 1 : *text >> 5 == 6 ? 2 : *text >> 4 == 14 ? 3 : *text >> 3 == 30 ? 4 : 0;
  uint32_t code = n < 2 ? *text : *text & (0x7f >> n);
  for (int i = 1; i < n; i++) {
    if (text[i] >> 6 != 2) return *bytes = 1, 0xdc00 + *text;
    code = code << 6 | (text[i] & 0x3f);
  }
  if (n == 0 || code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return *bytes = 1, 0xdc00 + *text;
  return *bytes = n, code;
}

/* Neither quotes nor anything that steers a terminal or turns the direction of writing: Latin letters and ASCII. */
static bool plain(uint32_t code) {
  return (code >= ' ' && code < 0x7f && code != '\\') || (code > 0xa0 && code < 0x250 && code != 0xad);
}

static void escaped(FILE *out, const char *text, char quote) {
  static const char named[] = "\bb\ff\nn\rr\tt\\\\\"\"";
  int bytes;
  for (const unsigned char *at = (const unsigned char *)text; *at; at += bytes) {
    const uint32_t code = next(at, &bytes);
    const char *name = NULL;
    for (const char *pair = named; *pair && !name; pair += 2)
      if ((uint32_t)*pair == code) name = pair + 1;
    if (plain(code) && code != (unsigned char)quote)
      fwrite(at, 1, bytes, out);
    else if (name)
      fprintf(out, "\\%c", *name);
    else if (code < 0x10000)
      fprintf(out, "\\u%04x", (unsigned)code);
    else
      fprintf(out, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (code >> 10)), (unsigned)(0xdc00 + (code & 0x3ff)));
  }
}

void text_json(FILE *out, const char *text) {
  putc('"', out);
  escaped(out, text, '"');
  putc('"', out);
}

void text_number(FILE *out, double number) {
  char digits[400];
  int end = snprintf(digits, sizeof digits, "%.6f", number);
  const long millionths = strncmp(digits, "0.0000", 6) == 0 ? strtol(digits + 6, NULL, 10) : 0;
  if (millionths % 10 == 0 && millionths != 0) {
    fprintf(out, "%lde-05", millionths / 10);
  } else if (millionths > 10) {
    fprintf(out, "%ld.%lde-05", millionths / 10, millionths % 10);
  } else if (millionths != 0) {
    fprintf(out, "%lde-06", millionths);
  } else {
    while (digits[end - 1] == '0' && digits[end - 2] != '.') end--;
    fwrite(digits, 1, end, out);
  }
}

void text_path(char *path) {
  char *to = path;
  const char *from = path;
  if (*from == '/') {
    /* two slashes are kept, one or more than two are one */
    const size_t slashes = strspn(from, "/");
    to += slashes == 2 ? 2 : 1;
    from += slashes;
  }
  char *const root = to;
  while (*from) {
    const size_t length = strcspn(from, "/");
    if (length > 0 && !(length == 1 && *from == '.')) {
      if (to != root) *to++ = '/';
      memmove(to, from, length);
      to += length;
    }
    from += length;
    from += strspn(from, "/");
  }
  if (to == path) *to++ = '.';
  *to = 0;
}

bool text_refuse(const char *name, const char *sentence, ...) {
  va_list arguments;
  fputs("labous: Recording '", stderr);
  escaped(stderr, name, '\'');
  fputs("' ", stderr);
  va_start(arguments, sentence);
  vfprintf(stderr, sentence, arguments);
  va_end(arguments);
  putc('\n', stderr);
  return false;
}

bool text_complain(const char *sentence, ...) {
  va_list arguments;
  fputs("labous: ", stderr);
  va_start(arguments, sentence);
  vfprintf(stderr, sentence, arguments);
  va_end(arguments);
  putc('\n', stderr);
  return false;
}
