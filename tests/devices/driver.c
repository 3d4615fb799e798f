/* A stranger's program: it knows melspec.h and the C library, and answers on stdout what it reads from stdin.
 *
 * A case is a melspec_config, a question and as many floats as this says. The answer is the code of melspec_create and,
 * where there is a plan, those of melspec_window, of melspec_filters and of melspec_run for each output, every one
 * followed by what it counts (of melspec_run n_mels times as much), and that of melspec_bad_sample. Where the question
 * asks for a stream, the code of melspec_stream_create follows, and for every chunk what the pushes of it return, the
 * windows that can be pulled after each, a 0 where there is none, melspec_stream_bad_sample's, and the same once more
 * by melspec_stream_run, with the number of samples that it leaves. A configuration whose abi_version is LAW stands before a
 * melspec_law_config: the answer is then the code of melspec_law_create and, where there is a law, those of
 * melspec_law_filters for each channel, of melspec_law_run from the sample that the question's `output` names on, and of
 * melspec_law_bad_sample. All is in the machine's own byte order. The exit
 * status is 2 where a case is cut short or memory runs out, 3 where the library is of another version or will not let
 * go of a plan.
 */
#include "melspec.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct question {
  int32_t n_samples;
  int32_t output, window_samples, step_samples, chunk; /* of the stream; no stream where chunk is 0 */
} question;

enum { LAW = 1000 };

static void tell(const void *from, size_t size, int32_t count) {
  if (count > 0 && fwrite(from, size, (size_t)count, stdout) != (size_t)count) exit(2);
}

static int32_t tell_code(int32_t code) {
  tell(&code, sizeof code, 1);
  return code;
}

static void *room(int32_t count, size_t size) {
  void *memory = malloc(count > 0 ? (size_t)count * size : 1);
  if (memory == NULL) exit(2);
  return memory;
}

static void answer_run(melspec_plan *plan, const melspec_config *config, const float *samples, int32_t n_samples) {
  double *window = room(config->n_fft, sizeof *window);
  tell(window, sizeof *window, tell_code(melspec_window(plan, window, config->n_fft)));
  free(window);

  int32_t weights = config->n_mels * (1 + config->n_fft / 2);
  float *filters = room(weights, sizeof *filters);
  tell(filters, sizeof *filters, tell_code(melspec_filters(plan, filters, weights)));
  free(filters);

  int32_t capacity = melspec_bytes(plan, n_samples) / 4;
  float *out = room(capacity, sizeof *out);
  for (int32_t output = MELSPEC_OUTPUT_POWER; output <= MELSPEC_OUTPUT_SCALED; ++output)
    tell(out, sizeof *out, config->n_mels * tell_code(melspec_run(plan, output, samples, n_samples, out, capacity)));
  free(out);
  tell_code(melspec_bad_sample(plan));
}

static void answer_stream(melspec_plan *plan, const melspec_config *config, const float *samples, const question *ask) {
  melspec_stream *stream;
  tell_code(melspec_stream_create(plan, ask->output, ask->window_samples, ask->step_samples, &stream));
  if (stream == NULL) return;
  for (int32_t pushed = 0; pushed < ask->n_samples;) {
    int32_t left = ask->n_samples - pushed;
    int32_t taken = tell_code(melspec_stream_push(stream, samples + pushed, left < ask->chunk ? left : ask->chunk));
    if (taken <= 0) break;
    pushed += taken;
    int32_t frames;
    while ((frames = tell_code(melspec_stream_pull(stream))) > 0)
      tell(melspec_stream_window(stream), sizeof(float), config->n_mels * frames);
  }
  tell_code(melspec_stream_bad_sample(stream));
  tell_code(melspec_stream_reset(stream));
  melspec_chunk chunk = {stream, samples, ask->n_samples};
  int32_t frames;
  while ((frames = tell_code(melspec_stream_run(&chunk))) > 0)
    tell(melspec_stream_window(stream), sizeof(float), config->n_mels * frames);
  tell_code(chunk.n_samples);
  melspec_stream_destroy(stream);
}

static int answer_law(const melspec_law_config *config, const float *samples, const question *ask) {
  melspec_law *law;
  tell_code(melspec_law_create(config, &law));
  if (law == NULL) return 1;
  for (int32_t channel = 0; channel < config->n_channels; ++channel) {
    int32_t weights = config->n_mels * (1 + config->channels[channel].n_fft / 2);
    float *filters = room(weights, sizeof *filters);
    tell(filters, sizeof *filters, tell_code(melspec_law_filters(law, channel, filters, weights)));
    free(filters);
  }
  int32_t capacity = melspec_law_bytes(law, ask->n_samples - ask->output) / 4;
  float *out = room(capacity, sizeof *out);
  int32_t frames = tell_code(melspec_law_run(law, samples, ask->n_samples, ask->output, out, capacity));
  tell(out, sizeof *out, config->n_mels * config->n_channels * frames);
  free(out);
  tell_code(melspec_law_bad_sample(law));
  return melspec_law_destroy(law) == MELSPEC_OK;
}

int main(void) {
  if (melspec_abi_version() != MELSPEC_ABI_VERSION) return 3;
  if (melspec_config_size() != (int32_t)sizeof(melspec_config)) return 3;
  if (melspec_law_config_size() != (int32_t)sizeof(melspec_law_config)) return 3;
  melspec_config config;
  while (fread(&config, sizeof config, 1, stdin) == 1) {
    melspec_law_config law_config;
    if (config.abi_version == LAW && fread(&law_config, sizeof law_config, 1, stdin) != 1) return 2;
    question ask;
    if (fread(&ask, sizeof ask, 1, stdin) != 1) return 2;
    float *samples = room(ask.n_samples, sizeof *samples);
    if (fread(samples, sizeof *samples, (size_t)ask.n_samples, stdin) != (size_t)ask.n_samples) return 2;
    if (config.abi_version == LAW) {
      if (!answer_law(&law_config, samples, &ask)) return 3;
      free(samples);
      continue;
    }
    melspec_plan *plan;
    tell_code(melspec_create(&config, &plan));
    if (plan != NULL) answer_run(plan, &config, samples, ask.n_samples);
    if (plan != NULL && ask.chunk > 0) answer_stream(plan, &config, samples, &ask);
    if (melspec_destroy(plan) != MELSPEC_OK) return 3;
    free(samples);
  }
  return feof(stdin) && fflush(stdout) == 0 ? 0 : 2;
}
