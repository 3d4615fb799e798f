// Plans and streams that live at the same time, what is done with them, and what must hold then.
#pragma once

#include <memory>
#include <vector>

#include "configs.h"
#include "signals.h"

namespace fuzz {

// What is worth the time: samples to hand over, numbers to get.
constexpr int64_t kMostSamples = 20000, kMostValues = 1 << 18;

// Not aligned as a T must be.
template <typename T>
T *shifted(Choices &choices, T *pointer) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  return reinterpret_cast<T *>(address + static_cast<uintptr_t>(choices.between(1, alignof(T) - 1)));
}

struct Plan {
  melspec_plan *handle;
  melspec_config config;
  int32_t streams = 0;
  int32_t bad = -1;          // index of the last run that met what is not finite
  bool bad_is_last = false;  // no other run since

  int64_t frames(int64_t n_samples) const;
};

struct Stream {
  melspec_stream *handle;
  Plan *plan;
  int32_t output;
  int64_t window, step;
  const float *place = nullptr;  // of its windows
  int64_t taken = 0, pulled = 0;
  std::vector<float> recent;  // samples taken, the first ones forgotten
  std::vector<float> last;    // window pulled, as long as it must stay

  int64_t missing() const;  // samples until the next window is complete
  void take(const float *samples, int64_t count);
};

class World {
 public:
  explicit World(Choices &choices) : choices_(choices) {}
  // Does one thing, by one call or several.
  void act();
  // Destroys everything that is left.
  void end();

 private:
  void create();
  void create_wrongly();
  void destroy();
  void measure();
  void copy_out();
  void run();
  void run_repeatedly(Plan &plan, int32_t output, const Signal &signal, const Block<float> &first);
  void run_elsewhere();
  void ask_nobody();
  void small_calls();
  void act_on_streams();
  void stream_create();
  void stream_push(Stream &stream);
  void stream_pull(Stream &stream);
  void stream_run(Stream &stream);
  void check_last(const Stream &stream);
  void check_next(Stream &stream, int32_t pulled);
  void stream_reset(Stream &stream);
  void stream_destroy();
  void act_on_laws();
  void law_filters(melspec_law *law, const melspec_law_config &config);
  void law_run(melspec_law *law, const melspec_law_config &config);
  void laws_of_nobody();

  int32_t sample_count(const Plan &plan);
  int64_t chunk_size(const Stream &stream);
  Plan &any_plan();
  Stream &any_stream();
  void keep(melspec_plan *made, const melspec_config &config);

  Choices &choices_;
  std::vector<std::unique_ptr<Plan>> plans_;
  std::vector<std::unique_ptr<Stream>> streams_;
};

}  // namespace fuzz
