// Calls the mel stage in every way that its contract allows, and checks what melspec.h promises. fuzz.py builds it,
// with the sanitizers that find what is not promised.
//
// Decisions come in episodes, each of which begins and ends with nothing alive. An episode comes from a seed and its
// number; or, with MELSPEC_LIBFUZZER, from the bytes that libFuzzer thinks up.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>

#include <unistd.h>

#include "world.h"

#include "instrument.h"
#undef aligned_alloc  // here it is the C library's

namespace fuzz {

Record record;
Memory memory;

void fail(const char *what, int64_t found, int64_t expected) {
  fprintf(stderr, "fuzz: FAILED: %s", what);
  if (found != expected)
    fprintf(stderr, " (%lld, not %lld)", static_cast<long long>(found), static_cast<long long>(expected));
  fputc('\n', stderr);
  abort();
}

namespace {

constexpr int64_t kEpisode = 2000;  // calls, about
constexpr size_t kMostBytes = 64 << 20;

const auto start = std::chrono::steady_clock::now();

void play(Choices &choices) {
  World world(choices);
  const int64_t end = record.calls + kEpisode;
  while (record.calls < end && !choices.spent()) world.act();
  world.end();
}

// One line of JSON.
void summarize() {
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  printf("{\"calls\": %lld, \"seconds\": %.1f, \"digest\": \"%016llx\", \"codes\": [",
         static_cast<long long>(record.calls), time.count(), static_cast<unsigned long long>(record.digest));
  for (int code = 0; code < kCodes; ++code)
    printf("%s%lld", code ? ", " : "", static_cast<long long>(record.codes[code]));
  printf("]}\n");
}

}  // namespace
}  // namespace fuzz

// Memory with the worst of contents: a double or a float read before it is written is a NaN.
extern "C" void *melspec_fuzz_aligned_alloc(size_t alignment, size_t bytes) {
  fuzz::Memory &memory = fuzz::memory;
  if (memory.refuse_next || bytes > fuzz::kMostBytes) {
    memory.refuse_next = false;
    memory.refused = true;
    return nullptr;
  }
  void *const given = std::aligned_alloc(alignment, bytes);
  if (!given) abort();
  memory.largest = static_cast<int64_t>(bytes);
  return memset(given, 0xff, bytes);
}

// Each sanitizer may have a runtime of its own. A finding ends in abort(), as those of fail() do.
extern "C" const char *__asan_default_options() { return "abort_on_error=1:quarantine_size_mb=16"; }
extern "C" const char *__ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

#ifdef MELSPEC_LIBFUZZER

extern "C" int LLVMFuzzerInitialize(int *, char ***) { return atexit(fuzz::summarize); }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
  fuzz::Choices choices(bytes, count);
  fuzz::play(choices);
  return 0;
}

#else

namespace {

using fuzz::Plant;
using fuzz::record;

uint64_t seed = 1, episode = 0;

constexpr unsigned kPatience = 100;  // seconds for an episode, which takes less than one

constexpr struct {
  const char *name;
  Plant plant;
} kPlants[] = {{"short", Plant::kShort}, {"zone", Plant::kZone}, {"overflow", Plant::kOverflow},
               {"leak", Plant::kLeak},   {"bits", Plant::kBits}, {"written", Plant::kWritten},
               {"code", Plant::kCode}};

void say_where(int) {
  fprintf(stderr, "fuzz: in call %lld, %s, of --seed %llu --episode %llu\n", static_cast<long long>(record.calls),
          record.last, static_cast<unsigned long long>(seed), static_cast<unsigned long long>(episode));
}

void make_mistake(int64_t calls) {
  if (record.plant == Plant::kOverflow) printf("%d\n", 0x7fffffff + static_cast<int32_t>(calls));
  if (record.plant != Plant::kZone) return;
  std::unique_ptr<char[]> block(new char[1024]);
  melspec::Arena arena{block.get()};
  const float *const piece = arena.take<float>(3);
  printf("%g\n", static_cast<double>(piece[3]));
}

int usage() {
  fprintf(stderr, "usage: fuzz [--calls N] [--seed N] [--episode N] [--trace] [--plant");
  for (const auto &one : kPlants) fprintf(stderr, " %s", one.name);
  fprintf(stderr, "]\n");
  return 2;
}

}  // namespace

int main(int count, char **arguments) {
  int64_t calls = 1000000;
  bool one_episode = false;
  for (int i = 1; i < count; ++i) {
    const char *const option = arguments[i];
    if (!strcmp(option, "--trace")) {
      record.trace = true;
      continue;
    }
    const char *const value = ++i < count ? arguments[i] : nullptr;
    if (!value) return usage();
    if (!strcmp(option, "--calls")) {
      calls = strtoll(value, nullptr, 10);
    } else if (!strcmp(option, "--seed")) {
      seed = strtoull(value, nullptr, 10);
    } else if (!strcmp(option, "--episode")) {
      episode = strtoull(value, nullptr, 10);
      one_episode = true;
    } else if (!strcmp(option, "--plant")) {
      for (const auto &one : kPlants)
        if (!strcmp(value, one.name)) record.plant = one.plant;
      if (record.plant == Plant::kNone) return usage();
    } else {
      return usage();
    }
  }
  signal(SIGABRT, say_where);
  signal(SIGALRM, [](int) { abort(); });
  make_mistake(calls);
  do {
    alarm(kPatience);
    fuzz::Choices choices(seed << 32 ^ episode);
    fuzz::play(choices);
    ++episode;
  } while (!one_episode && record.calls < calls);
  fuzz::summarize();
  return 0;
}

#endif
