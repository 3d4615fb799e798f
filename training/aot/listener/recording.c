#include "recording.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"
#include "wave.h"

static bool failed(const recording *r) {
  return text_refuse(r->name, "cannot be read: %s.", strerror(errno));
}

bool recording_open(recording *r, const char *path, const sample_format *raw, int32_t rate) {
  struct stat about;
  *r = (recording){.name = path ? path : "-", .lowest = INFINITY, .highest = -INFINITY};
  r->file = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
  if (r->file < 0 && errno == ENOENT) return text_refuse(r->name, "does not exist; check the path.");
  if (r->file < 0 || fstat(r->file, &about) != 0) return failed(r);
  if (S_ISDIR(about.st_mode)) return text_refuse(r->name, "is a folder; give a file.");
  r->passing = !S_ISREG(about.st_mode);
  if (!r->passing && about.st_size == 0) return text_refuse(r->name, "is empty; fetch it again.");
  r->promised = -1;
  if (raw)
    r->format = *raw;
  else if (!wave_header(r, rate))
    return false;
  if (r->format.rate != rate)
    return text_refuse(r->name, "has a sample rate of %d Hz, and this program hears %d Hz; " WAVE_CONVERT ".",
                       (int)r->format.rate, (int)rate, (int)rate);
  if (!r->passing && (r->begin = lseek(r->file, 0, SEEK_CUR)) < 0) return failed(r);
  return true;
}

static float sample(const unsigned char *at, const sample_format *format) {
  int32_t whole = 0;
  float value;
  if (format->floating) {
    memcpy(&value, at, 4);
    return value;
  }
  memcpy((char *)&whole + 4 - format->bytes, at, format->bytes);
  return (float)whole * 0x1p-31f;
}

/* In numpy's order, so that sums are the same bits. */
static float sum(const float *values, int n) {
  float total = 0, parts[8];
  if (n > 128) {
    const int half = n / 2 - n / 2 % 8;
    return sum(values, half) + sum(values + half, n - half);
  }
  int i = 0;
  if (n >= 8) {
    memcpy(parts, values, sizeof parts);
    for (i = 8; i + 8 <= n; i += 8)
      for (int k = 0; k < 8; k++) parts[k] += values[i + k];
    total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
  }
  for (; i < n; i++) total += values[i];
  return total;
}

ssize_t recording_read(recording *r, float *mono) {
  const int channels = r->format.channels, frame = channels * r->format.bytes;
  while (r->held < frame) {
    int64_t room = RECORDING_BLOCK - r->held;
    if (r->promised >= 0 && r->promised - r->got < room) room = r->promised - r->got;
    const ssize_t n = room == 0 ? 0 : read(r->file, r->buffer + r->held, room);
    if (n == 0) return 0;
    if (n < 0 && errno != EINTR) return failed(r), -1;
    if (n > 0) r->held += n, r->got += n;
  }
  const int frames = r->held / frame;
  float lowest = r->lowest, highest = r->highest;
  for (int i = 0; i < frames; i++) {
    float values[RECORDING_CHANNELS];
    for (int c = 0; c < channels; c++) {
      values[c] = sample(r->buffer + i * frame + c * r->format.bytes, &r->format);
      if (!isfinite(values[c])) {
        text_refuse(r->name, "holds a sample that is not finite at %.3f s; export it again from its source.",
                    (double)(r->frames + i) / r->format.rate);
        return -1;
      }
    }
    mono[i] = channels == 1 ? values[0] : sum(values, channels) / (float)channels;
    lowest = mono[i] < lowest ? mono[i] : lowest;
    highest = mono[i] > highest ? mono[i] : highest;
  }
  r->lowest = lowest, r->highest = highest;
  r->frames += frames;
  r->held -= frames * frame;
  memmove(r->buffer, r->buffer + frames * frame, r->held);
  return frames;
}

bool recording_check(const recording *r) {
  if (r->promised >= 0 && r->got < r->promised)
    return text_refuse(r->name, "is cut short: it holds %lld of %lld bytes of sound; fetch it again.",
                       (long long)r->got, (long long)r->promised);
  if (r->frames == 0) return text_refuse(r->name, "holds no samples; record it again.");
  if (r->lowest == r->highest)
    return text_refuse(r->name, "is silent: all its samples are the same; check the microphone.");
  return true;
}

bool recording_rewind(recording *r) {
  if (lseek(r->file, r->begin, SEEK_SET) < 0) return failed(r);
  r->got = r->frames = r->held = 0;
  return true;
}

void recording_close(recording *r) {
  if (r->file > STDIN_FILENO) close(r->file);
}
