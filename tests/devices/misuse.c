/* Whatever can be passed wrongly to melspec.h without undefined behaviour, and the code that it must give.
 * Prints what gives another one, and then the sentence of every code.
 */
#include "melspec.h"

#include <stdio.h>

#define GIVES(code, call)                                                            \
  do {                                                                               \
    int got = (int)(call);                                                           \
    if (got != (code)) printf("%s gives %d instead of " #code "\n", #call, got);     \
  } while (0)

static melspec_config config = {
    .f_max = 16000, .amin = 1e-10, .ref = 1, .db_scale = 1, .abi_version = MELSPEC_ABI_VERSION, .sample_rate = 32000,
    .n_fft = 256, .win_length = 256, .hop_length = 128, .power = 2, .n_mels = 16, .mel_norm = MELSPEC_NORM_SLANEY};
static float samples[513], out[16 * 3], filters[16 * 129];
static double window[257];
static melspec_law_config law_config = {
    .peak_epsilon = 1e-6, .peak_offset = 0.5, .peak_scale = 2, .abi_version = MELSPEC_ABI_VERSION, .sample_rate = 32000,
    .n_mels = 8, .n_channels = 2, .channels = {{0, 16000, 0.5, 256, 128}, {500, 9000, 0.2, 256, 128}}};
static melspec_law *law;
static melspec_plan *plan;
static melspec_stream *stream;

static void *shifted(void *pointer, int bytes) { return (char *)pointer + bytes; }

int main(void) {
  GIVES(MELSPEC_ERROR_POINTER, melspec_create(NULL, &plan));
  GIVES(MELSPEC_ERROR_POINTER, melspec_create(&config, NULL));
  GIVES(MELSPEC_ERROR_POINTER, melspec_create(shifted(&config, 2), &plan));
  GIVES(MELSPEC_ERROR_POINTER, melspec_create(&config, shifted(window, 1)));
  config.n_mels = 257;
  plan = shifted(window, 0);
  GIVES(MELSPEC_ERROR_N_MELS, melspec_create(&config, &plan));
  GIVES(1, plan == NULL);
  config.n_mels = 16;
  GIVES(MELSPEC_OK, melspec_create(&config, &plan));
  melspec_plan *misaligned = shifted(plan, 1);

  GIVES(MELSPEC_ERROR_PLAN, melspec_run(NULL, MELSPEC_OUTPUT_POWER, samples, 512, out, 48));
  GIVES(MELSPEC_ERROR_PLAN, melspec_run(misaligned, MELSPEC_OUTPUT_POWER, samples, 512, out, 48));
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, -1, out, 48));
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, 255, out, 48));
  GIVES(MELSPEC_ERROR_OUTPUT, melspec_run(plan, 3, samples, 512, out, 48));
  GIVES(MELSPEC_ERROR_CAPACITY, melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, 512, out, 47));
  GIVES(MELSPEC_ERROR_CAPACITY, melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, 512, out, -1));
  GIVES(MELSPEC_ERROR_CAPACITY, melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, INT32_MAX, out, 48));
  GIVES(MELSPEC_ERROR_POINTER, melspec_run(plan, MELSPEC_OUTPUT_POWER, NULL, 512, out, 48));
  GIVES(MELSPEC_ERROR_POINTER, melspec_run(plan, MELSPEC_OUTPUT_POWER, shifted(samples, 2), 512, out, 48));
  GIVES(MELSPEC_ERROR_POINTER, melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, 512, NULL, 48));
  GIVES(MELSPEC_ERROR_POINTER, melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, 512, shifted(out, 2), 48));
  GIVES(MELSPEC_ERROR_POINTER, melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, 512, samples + 511, 48));
  GIVES(-1, melspec_bad_sample(plan));
  GIVES(3, melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, 512, out, 48));

  melspec_job job = {plan, MELSPEC_OUTPUT_POWER, samples, 512, out, 47};
  GIVES(MELSPEC_ERROR_POINTER, melspec_run_job(NULL));
  GIVES(MELSPEC_ERROR_POINTER, melspec_run_job(shifted(&job, 1)));
  GIVES(MELSPEC_ERROR_CAPACITY, melspec_run_job(&job));
  job.capacity = 48;
  GIVES(3, melspec_run_job(&job));

  GIVES(MELSPEC_ERROR_PLAN, melspec_frames(NULL, 512));
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_frames(plan, -1));
  GIVES(0, melspec_frames(plan, 255));
  GIVES(MELSPEC_ERROR_PLAN, melspec_bytes(NULL, 512));
  GIVES(3 * 16 * 4, melspec_bytes(plan, 512));
  GIVES((1 + (INT32_MAX - 256) / 128) * 64, melspec_bytes(plan, INT32_MAX));
  GIVES(MELSPEC_ERROR_PLAN, melspec_bad_sample(NULL));

  GIVES(MELSPEC_ERROR_PLAN, melspec_window(NULL, window, 256));
  GIVES(MELSPEC_ERROR_CAPACITY, melspec_window(plan, window, 255));
  GIVES(MELSPEC_ERROR_POINTER, melspec_window(plan, NULL, 256));
  GIVES(MELSPEC_ERROR_POINTER, melspec_window(plan, shifted(window, 4), 256));
  GIVES(256, melspec_window(plan, window, 257));
  GIVES(MELSPEC_ERROR_PLAN, melspec_filters(NULL, filters, 16 * 129));
  GIVES(MELSPEC_ERROR_CAPACITY, melspec_filters(plan, filters, -1));
  GIVES(MELSPEC_ERROR_POINTER, melspec_filters(plan, NULL, 16 * 129));
  GIVES(16 * 129, melspec_filters(plan, filters, 16 * 129));

  GIVES(MELSPEC_ERROR_POINTER, melspec_stream_create(plan, MELSPEC_OUTPUT_POWER, 512, 128, NULL));
  stream = shifted(window, 0);
  GIVES(MELSPEC_ERROR_PLAN, melspec_stream_create(NULL, MELSPEC_OUTPUT_POWER, 512, 128, &stream));
  GIVES(1, stream == NULL);
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_stream_create(plan, MELSPEC_OUTPUT_POWER, 255, 128, &stream));
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_stream_create(plan, MELSPEC_OUTPUT_POWER, -1, 128, &stream));
  GIVES(MELSPEC_ERROR_OUTPUT, melspec_stream_create(plan, 3, 512, 128, &stream));
  GIVES(MELSPEC_ERROR_STEP, melspec_stream_create(plan, MELSPEC_OUTPUT_POWER, 512, 0, &stream));
  GIVES(MELSPEC_OK, melspec_stream_create(plan, MELSPEC_OUTPUT_POWER, 512, 128, &stream));
  GIVES(MELSPEC_ERROR_IN_USE, melspec_destroy(plan));
  GIVES(MELSPEC_ERROR_STREAM, melspec_stream_push(NULL, samples, 1));
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_stream_push(stream, samples, -1));
  GIVES(0, melspec_stream_push(stream, NULL, 0));
  GIVES(MELSPEC_ERROR_POINTER, melspec_stream_push(stream, NULL, 1));
  GIVES(MELSPEC_ERROR_POINTER, melspec_stream_push(stream, shifted(samples, 1), 1));
  GIVES(MELSPEC_ERROR_STREAM, melspec_stream_pull(shifted(stream, 1)));
  GIVES(0, melspec_stream_pull(stream));
  for (int again = 0; again < 2; ++again) {
    GIVES(512, melspec_stream_push(stream, samples, 512));
    GIVES(3, melspec_stream_pull(stream));
    GIVES(0, melspec_stream_pull(stream));
    GIVES(MELSPEC_ERROR_STREAM, melspec_stream_reset(NULL));
    GIVES(MELSPEC_OK, melspec_stream_reset(stream));
  }
  GIVES(1, melspec_stream_window(NULL) == NULL && melspec_stream_window(stream) != NULL);
  GIVES(MELSPEC_ERROR_STREAM, melspec_stream_bad_sample(NULL));
  GIVES(-1, melspec_stream_bad_sample(stream));
  GIVES(MELSPEC_ERROR_STREAM, melspec_stream_destroy(shifted(stream, 1)));
  GIVES(MELSPEC_OK, melspec_stream_destroy(stream));
  GIVES(MELSPEC_OK, melspec_stream_destroy(NULL));

  GIVES(168, melspec_law_config_size());
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_create(NULL, &law));
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_create(&law_config, NULL));
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_create(shifted(&law_config, 2), &law));
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_create(&law_config, shifted(window, 1)));
  law_config.n_channels = 1;
  law = shifted(window, 0);
  GIVES(MELSPEC_ERROR_CHANNELS, melspec_law_create(&law_config, &law));
  GIVES(1, law == NULL);
  law_config.n_channels = 2;
  law_config.peak_epsilon = 0;
  GIVES(MELSPEC_ERROR_PEAK, melspec_law_create(&law_config, &law));
  law_config.peak_epsilon = 1e-6;
  law_config.channels[1].exponent = 2;
  GIVES(MELSPEC_ERROR_EXPONENT, melspec_law_create(&law_config, &law));
  law_config.channels[1].exponent = 0.2;
  GIVES(MELSPEC_OK, melspec_law_create(&law_config, &law));
  melspec_law *not_law = shifted(law, 1);
  for (int wrong = 0; wrong < 2; ++wrong, not_law = NULL) {
    GIVES(MELSPEC_ERROR_LAW, melspec_law_frames(not_law, 512));
    GIVES(MELSPEC_ERROR_LAW, melspec_law_bytes(not_law, 512));
    GIVES(MELSPEC_ERROR_LAW, melspec_law_run(not_law, samples, 512, 0, out, 48));
    GIVES(MELSPEC_ERROR_LAW, melspec_law_bad_sample(not_law));
    GIVES(MELSPEC_ERROR_LAW, melspec_law_filters(not_law, 0, filters, 8 * 129));
  }
  GIVES(3, melspec_law_frames(law, 512));
  GIVES(3 * 16 * 4, melspec_law_bytes(law, 512));
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_law_frames(law, -1));
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_law_bytes(law, -1));
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_law_run(law, samples, -1, 0, out, 48));
  GIVES(MELSPEC_ERROR_N_SAMPLES, melspec_law_run(law, samples, 512, 257, out, 48));
  GIVES(MELSPEC_ERROR_FIRST_SAMPLE, melspec_law_run(law, samples, 512, -1, out, 48));
  GIVES(MELSPEC_ERROR_FIRST_SAMPLE, melspec_law_run(law, samples, 512, 513, out, 48));
  GIVES(MELSPEC_ERROR_CAPACITY, melspec_law_run(law, samples, 512, 0, out, 47));
  GIVES(MELSPEC_ERROR_CAPACITY, melspec_law_run(law, samples, 512, 0, out, -1));
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_run(law, NULL, 512, 0, out, 48));
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_run(law, shifted(samples, 2), 512, 0, out, 48));
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_run(law, samples, 512, 0, NULL, 48));
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_run(law, samples, 512, 0, shifted(out, 2), 48));
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_run(law, samples, 512, 0, samples + 511, 48));
  GIVES(3, melspec_law_run(law, samples, 512, 0, out, 48));
  GIVES(2, melspec_law_run(law, samples, 512, 1, out, 48));
  GIVES(-1, melspec_law_bad_sample(law));
  GIVES(MELSPEC_ERROR_CHANNELS, melspec_law_filters(law, 2, filters, 8 * 129));
  GIVES(MELSPEC_ERROR_CHANNELS, melspec_law_filters(law, -1, filters, 8 * 129));
  GIVES(MELSPEC_ERROR_CAPACITY, melspec_law_filters(law, 1, filters, 8 * 129 - 1));
  GIVES(MELSPEC_ERROR_POINTER, melspec_law_filters(law, 1, NULL, 8 * 129));
  GIVES(8 * 129, melspec_law_filters(law, 1, filters, 8 * 129));
  GIVES(MELSPEC_ERROR_LAW, melspec_law_destroy(shifted(law, 1)));
  GIVES(MELSPEC_OK, melspec_law_destroy(law));
  GIVES(MELSPEC_OK, melspec_law_destroy(NULL));

  GIVES(1, melspec_alloc(-1) == NULL);
  void *memory = melspec_alloc(100);
  GIVES(1, memory != NULL && (uintptr_t)memory % 16 == 0);
  melspec_free(memory);
  melspec_free(NULL);
  GIVES(MELSPEC_OK, melspec_destroy(NULL));
  GIVES(MELSPEC_ERROR_PLAN, melspec_destroy(misaligned));
  GIVES(MELSPEC_OK, melspec_destroy(plan));
  for (int code = 0; code > -40; --code) printf("%d: %s\n", code, melspec_message(code));
  return 0;
}
