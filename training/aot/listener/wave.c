#include "wave.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

enum { PCM = 1, FLOAT = 3, EXTENSIBLE = 0xfffe };

static uint32_t little(const unsigned char *bytes, int n) {
  uint32_t number = 0;
  while (n--) number = number << 8 | bytes[n];
  return number;
}

/* The next n bytes, or fewer at the end; -1 where they cannot be read. */
static ssize_t take(recording *r, unsigned char *bytes, size_t n) {
  size_t got = 0;
  while (got < n) {
    const ssize_t more = read(r->file, bytes + got, n - got);
    if (more == 0) break;
    if (more < 0 && errno != EINTR) return text_refuse(r->name, "cannot be read: %s.", strerror(errno)), -1;
    if (more > 0) got += more;
  }
  return got;
}

static bool take_all(recording *r, unsigned char *bytes, size_t n) {
  const ssize_t got = take(r, bytes, n);
  if (got >= 0 && (size_t)got < n) text_refuse(r->name, "is cut short: it ends before its sound; fetch it again.");
  return got == (ssize_t)n;
}

static bool skip(recording *r, int64_t n) {
  while (n > 0) {
    const size_t some = n < RECORDING_BLOCK ? n : RECORDING_BLOCK;
    if (!take_all(r, r->buffer, some)) return false;
    n -= some;
  }
  return true;
}

/* What a writer that cannot seek back leaves as a size: 0, or about as much as there can be (arecord, sox, ffmpeg). */
static bool unknown(uint32_t size) {
  return size == 0 || (size >= 0x7ffff000 && size <= 0x7fffffff) || size >= 0xfffff000;
}

static bool format_chunk(recording *r, uint32_t size, int32_t rate) {
  static const char after_code[] = "\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
  unsigned char bytes[40] = {0};
  const uint32_t known = size < sizeof bytes ? size : sizeof bytes;
  if (!take_all(r, bytes, known) || !skip(r, (int64_t)size + size % 2 - known)) return false;
  uint32_t codec = little(bytes, 2);
  const uint32_t channels = little(bytes + 2, 2), block = little(bytes + 12, 2), bits = little(bytes + 14, 2);
  if (codec == EXTENSIBLE && memcmp(bytes + 26, after_code, sizeof after_code - 1) == 0) codec = little(bytes + 24, 2);
  if ((codec != PCM || (bits != 16 && bits != 24 && bits != 32)) && (codec != FLOAT || bits != 32))
    return text_refuse(r->name,
                       "holds samples of codec %u with %u bits, and only PCM of 16, 24 and 32 bits and float of 32 bits "
                       "can be read; " WAVE_CONVERT ".",
                       (unsigned)codec, (unsigned)bits, (int)rate);
  if (channels < 1 || channels > RECORDING_CHANNELS || block != channels * bits / 8 || little(bytes + 4, 4) > 1000000)
    return text_refuse(r->name, "has a header at odds with itself; fetch it again.");
  r->format = (sample_format){.rate = little(bytes + 4, 4), .channels = channels, .bytes = bits / 8,
                              .floating = codec == FLOAT};
  return true;
}

bool wave_header(recording *r, int32_t rate) {
  unsigned char head[12];
  const ssize_t got = take(r, head, sizeof head);
  if (got < 0) return false;
  if (got == 0) return text_refuse(r->name, "is empty; fetch it again.");
  if (got < (ssize_t)sizeof head || memcmp(head, "RIFF", 4) != 0 || memcmp(head + 8, "WAVE", 4) != 0)
    return text_refuse(r->name, "is not a WAV file; " WAVE_CONVERT " (or give --raw, where it has no header).", (int)rate);
  for (;;) {
    if (!take_all(r, head, 8)) return false;
    const uint32_t size = little(head + 4, 4);
    if (memcmp(head, "data", 4) == 0) {
      if (r->format.channels == 0) return text_refuse(r->name, "has a header at odds with itself; fetch it again.");
      r->promised = unknown(size) ? -1 : (int64_t)size;
      return true;
    }
    if (memcmp(head, "fmt ", 4) == 0 ? !format_chunk(r, size, rate) : !skip(r, (int64_t)size + size % 2)) return false;
  }
}
