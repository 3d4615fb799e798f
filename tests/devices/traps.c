/* Calls functions that trap, each twice, and prints what they give and what that means. */
#include "melspec.h"

#include <stdio.h>

static void say(const char *call, int32_t code) {
  printf("%s: %s\n", call, code < 0 ? melspec_message(code) : "no error");
}

int main(void) {
  melspec_config config = {.n_fft = 2, .n_mels = 1};
  melspec_law_config law_config = {.n_channels = 1};
  melspec_plan *plan;
  melspec_law *law;
  float samples[100] = {0}, out[100];
  double window[2];
  say("create", melspec_create(&config, &plan));
  for (int again = 0; again < 2; ++again) {
    say("frames", melspec_frames(plan, 100));
    say("bad_sample", melspec_bad_sample(plan));
    say("window", melspec_window(plan, window, 2));
    say("filters", melspec_filters(plan, out, 2));
    say("run", melspec_run(plan, MELSPEC_OUTPUT_POWER, samples, 100, out, 100));
  }
  say("destroy", melspec_destroy(plan));
  say("law_create", melspec_law_create(&law_config, &law));
  for (int again = 0; again < 2; ++again) {
    say("law_frames", melspec_law_frames(law, 100));
    say("law_bad_sample", melspec_law_bad_sample(law));
    say("law_run", melspec_law_run(law, samples, 100, 0, out, 100));
  }
  say("law_destroy", melspec_law_destroy(law));
  return 0;
}
