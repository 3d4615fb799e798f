#include "law.h"

#include "cold.h"
#include "decibels.h"
#include "finite.h"
#include "tensorflow.h"

namespace melspec {
namespace {

constexpr double kLeast = 0x1p-1022;  // what is not above it counts as 0
constexpr double kPerOctave = 0x1.8151824c7587fp+1;  // 10 log10(2)

// 2^x for x below 1000; 0 for what comes to nothing in a float.
inline Vec exp2(Vec x) {
  // An integer added to 1.5 * 2^52 is added to its bits: a conversion that every lane width has.
  constexpr double kMagic = 0x1.8p52;
  constexpr uint64_t kMagicBits = 0x4338000000000000;
  // 2^r as a polynomial, the minimax one of its degree on |r| <= 1/2, relative error below 5e-11.
  constexpr double kSeries[] = {0x1.ffffffffabbcdp-1, 0x1.62e42ff116290p-1, 0x1.ebfbe0a4be810p-3,
                                0x1.c6b08aaf2e36fp-5, 0x1.3b29dc40d6c3fp-7, 0x1.5d8a7088f89cfp-10,
                                0x1.446a1fda8cbacp-13, 0x1.fe178322b8cb9p-17};
  x = larger(x, all(-1000.0));
  const Vec whole = x + all(kMagic), r = x - (whole - all(kMagic));
  constexpr int kDegree = sizeof kSeries / sizeof *kSeries - 1;
  Vec series = all(kSeries[kDegree]);
  for (int n = kDegree - 1; n >= 0; --n) series = series * r + all(kSeries[n]);
  return series * reinterpret_cast<Vec>((reinterpret_cast<VecBits>(whole) - (kMagicBits - 1023)) << 52);
}

constexpr float kFaint = 0x1p-48f;  // of the peak: what is not above it counts as 0

struct Scaling {
  float shrink, low, peak, offset, scale;
};

inline Vec magnitude(Vec x) {
  return reinterpret_cast<Vec>(reinterpret_cast<VecBits>(x) & 0x7fffffffffffffff);
}

// The smallest and the largest of the samples, compared as integers of the same order: vectors of floats take subnormal
// numbers for 0 on some boards.
MELSPEC_COLD void extremes(const float *samples, int32_t n, double *low, double *high) {
  constexpr int kMany = 8;
  typedef int32_t Many __attribute__((vector_size(4 * kMany), aligned(4), may_alias));
  const auto ordered = [](auto bits) { return bits ^ ((bits >> 31) & 0x7fffffff); };
  const auto value = [&](int32_t key) {
    const int32_t bits = ordered(key);
    float number;
    __builtin_memcpy(&number, &bits, sizeof number);
    return static_cast<double>(number);
  };
  // There are at least as many: a frame is longer. The last ones may be seen twice.
  Many least = ordered(*reinterpret_cast<const Many *>(samples)), most = least;
  for (int32_t i = kMany; i < n; i += kMany) {
    const Many x = ordered(*reinterpret_cast<const Many *>(samples + (i <= n - kMany ? i : n - kMany)));
    least = x < least ? x : least;
    most = x > most ? x : most;
  }
#pragma clang loop unroll(disable)
  for (int lane = 1; lane < kMany; ++lane) {
    least[0] = least[lane] < least[0] ? least[lane] : least[0];
    most[0] = most[lane] > most[0] ? most[lane] : most[0];
  }
  *low = value(least[0]);
  *high = value(most[0]);
}

// Samples `from` to `to` of a frame, of which there are two vectors before `to`; some may be scaled again. What vectors
// take for 0 on some boards, numbers below 2^-126, comes to less than kFaint here, or gets lost in a sum: check() sees to
// that.
inline void scale(const float *x, int from, int to, const Scaling &scaling, float *y) {
  constexpr int kTogether = 2 * kLanes;
  for (int i = from; i < to; i += kTogether) {
    const int at = i <= to - kTogether ? i : to - kTogether;
    const FloatsAnywhere samples = *reinterpret_cast<const FloatsAnywhere *>(x + at), none = {};
    const FloatsAnywhere share = (samples * scaling.shrink - scaling.low) / scaling.peak;
    *reinterpret_cast<FloatsAnywhere *>(y + at) = ((share > kFaint ? share : none) - scaling.offset) * scaling.scale;
  }
}

MELSPEC_COLD __attribute__((noinline)) void clear(void *memory, decltype(sizeof 0) bytes) {
  char *const end = static_cast<char *>(memory) + bytes;
  for (char *byte = static_cast<char *>(memory); byte < end; ++byte) *byte = 0;
}

bool within(double value, double least, double most) { return value >= least && value <= most; }

}  // namespace

MELSPEC_COLD int32_t check(const melspec_law_config &c) {
  if (c.abi_version != MELSPEC_ABI_VERSION) return MELSPEC_ERROR_ABI_VERSION;
  if (c.sample_rate < 8000 || c.sample_rate > 96000) return MELSPEC_ERROR_SAMPLE_RATE;
  if (c.n_mels < 1 || c.n_mels > 256) return MELSPEC_ERROR_N_MELS;
  if (c.n_channels < 1 || c.n_channels > MELSPEC_LAW_CHANNELS) return MELSPEC_ERROR_CHANNELS;
  // So bounded, no step of the scaling depends on numbers below 2^-126, nor does a product with the window, and no square
  // of a mel value is more than a float holds.
  const double size = magnitude(Vec{} + c.peak_scale)[0], offset = magnitude(Vec{} + c.peak_offset)[0];
  if (!within(c.peak_epsilon, 1e-15, 1e30) || (offset != 0 && offset < 1e-6) || !within(size, 1e-12, 1e12) ||
      !(size * (1.0 + offset) <= 1e12))
    return MELSPEC_ERROR_PEAK;
  for (int i = 0; i < MELSPEC_LAW_CHANNELS; ++i) {
    const melspec_law_channel &channel = c.channels[i];
    if (i >= c.n_channels) {
      uint64_t words[4];
      __builtin_memcpy(words, &channel, sizeof words);
      if (words[0] | words[1] | words[2] | words[3]) return MELSPEC_ERROR_CHANNELS;
      continue;
    }
    if (channel.n_fft < 256 || channel.n_fft > 4096 || (channel.n_fft & (channel.n_fft - 1)) != 0)
      return MELSPEC_ERROR_N_FFT;
    if (channel.hop_length < 1) return MELSPEC_ERROR_HOP_LENGTH;
    if (!(channel.f_min >= 0) || !(channel.f_min < channel.f_max) || !(channel.f_max <= c.sample_rate / 2.0))
      return MELSPEC_ERROR_FREQUENCIES;
    if (!(channel.exponent > 0 && channel.exponent <= 1)) return MELSPEC_ERROR_EXPONENT;
  }
  return MELSPEC_OK;
}

MELSPEC_COLD void LawChannel::allocate(Arena &arena, const melspec_law_channel &channel, int n_mels) {
  cosines.allocate(arena, channel.n_fft);
  filters.allocate(arena, n_mels, channel.n_fft);
}

// As TensorFlow's linear_to_mel_weight_matrix: triangles that are straight in mels of the HTK scale; nothing of bin 0.
MELSPEC_COLD bool LawChannel::prepare(const melspec_law_channel &channel, const melspec_law_config &config) {
  cosines.prepare();
  const int n_mels = config.n_mels;
  const float low = mel_as_tensorflow(static_cast<float>(channel.f_min));
  const float high = mel_as_tensorflow(static_cast<float>(channel.f_max));
  double *edges = filters.edges;
  for (int i = 0; i < n_mels + 2; ++i) {
    edges[i] = line_as_tensorflow(low, high, i, n_mels + 2);
    if (i > 0 && !(edges[i] > edges[i - 1])) return false;
  }
  const float nyquist = static_cast<float>(config.sample_rate) / 2.0f;
  float *mels = reinterpret_cast<float *>(cosines.reals);
  for (int bin = 1; bin < filters.bins; ++bin)
    mels[bin] = mel_as_tensorflow(line_as_tensorflow(0.0f, nyquist, bin, filters.bins));
  double *next = filters.weights;
  most = 0;
  for (int m = 0; m < n_mels; ++m) {
    int32_t &first = filters.first[m], &count = filters.count[m];
    first = count = 0;
    const float below = static_cast<float>(edges[m]), center = static_cast<float>(edges[m + 1]);
    const float above = static_cast<float>(edges[m + 2]);
    for (int bin = 1; bin < filters.bins; ++bin) {
      const float rising = (mels[bin] - below) / (center - below);
      const float falling = (above - mels[bin]) / (above - center);
      const float weight = rising < falling ? rising : falling;
      if (!(weight > 0.0f)) continue;
      if (count == 0) first = bin;
      if (bin > most) most = bin;
      *next++ = weight;
      ++count;
    }
    for (; count % kStep != 0; ++count) *next++ = 0.0;
  }
  return true;
}

}  // namespace melspec

using melspec::kLanes;
using melspec::Vec;

MELSPEC_COLD void melspec_law::allocate(melspec::Arena &arena, const melspec_law_config &constants) {
  config = constants;
  longest = 0;
  for (int i = 0; i < config.n_channels; ++i) {
    channels[i].allocate(arena, config.channels[i], config.n_mels);
    if (config.channels[i].n_fft > longest) longest = config.channels[i].n_fft;
  }
  // Channels are computed one after another.
  melspec::Cosines &first = channels[0].cosines;
  first.allocate_work(arena, longest);
  for (int i = 1; i < config.n_channels; ++i) {
    channels[i].cosines.reals = first.reals;
    channels[i].cosines.work = first.work;
  }
  spectrum = arena.take<Vec>(longest / 2 + melspec::kStep);
  scaled = arena.take<float>(kFrames * longest + 1);
}

MELSPEC_COLD int32_t melspec_law::prepare() {
  alive = melspec::kLawful;
  bad_sample = -1;
  for (int i = 0; i < config.n_channels; ++i) {
    if (!channels[i].prepare(config.channels[i], config)) return MELSPEC_ERROR_FREQUENCIES;
  }
  melspec::clear(spectrum, (longest / 2 + melspec::kStep) * sizeof(Vec));
  melspec::clear(scaled, (kFrames * longest + 1) * sizeof(float));
  return MELSPEC_OK;
}

int32_t melspec_law::frames(int64_t n_samples) const {
  int64_t least = 0x7fffffff;
  for (int i = 0; i < config.n_channels; ++i) {
    const int64_t room = n_samples - config.channels[i].n_fft;
    const int64_t count = room < 0 ? 0 : room / config.channels[i].hop_length + 1;
    if (count < least) least = count;
  }
  return static_cast<int32_t>(least);
}

int32_t melspec_law::run(const float *samples, int32_t n_samples, int32_t first_sample, float *out, int32_t n_frames) {
  bad_sample = melspec::first_not_finite(samples, n_samples);
  if (bad_sample >= 0) return MELSPEC_ERROR_NOT_FINITE;
  double low, high;
  melspec::extremes(samples, n_samples, &low, &high);
  // The difference of two floats may be no float, but is one when they are divided by 4.
  const float shrink = high - low > 0x1p127 ? 0.25f : 1.0f;
  const float range = static_cast<float>((high - low) * shrink);
  const melspec::Scaling scaling = {shrink, static_cast<float>(low) * shrink,
                                    range + static_cast<float>(config.peak_epsilon) * shrink,
                                    static_cast<float>(config.peak_offset), static_cast<float>(config.peak_scale)};
  const float *const begin = samples + first_sample;
  const int n_mels = config.n_mels, n_channels = config.n_channels;
  Vec values[256];
  for (int c = 0; c < n_channels; ++c) {
    const melspec::LawChannel &channel = channels[c];
    const double octaves = 2.0 * config.channels[c].exponent / melspec::kPerOctave;
    const int64_t hop = config.channels[c].hop_length;
    const int n_fft = config.channels[c].n_fft, step = hop < n_fft ? static_cast<int>(hop) : n_fft;
    // Frames lie one behind the other in `scaled`, over one another as in the samples, until it is full.
    const float *const last = scaled + kFrames * longest - (n_fft + (kLanes - 1) * step);
    float *at = scaled + kFrames * longest;
    for (int32_t t = 0; t < n_frames; t += kLanes) {
      int known = n_fft - step;
      if (at > last) {
        at = scaled;
        known = 0;
      }
      const float *frame[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) {
        if (t + lane < n_frames) {
          melspec::scale(begin + hop * (t + lane), known, n_fft, scaling, at);
          known = n_fft - step;
          frame[lane] = at;
          at += step;
        } else {
          frame[lane] = frame[0];
        }
      }
      channel.cosines.real_spectra(frame, channel.most, spectrum);
      const double *w = channel.filters.weights;
      for (int m = 0; m < n_mels; ++m) {
        const Vec *x = spectrum + channel.filters.first[m];
        Vec sums[melspec::kStep] = {};
        for (const double *end = w + channel.filters.count[m]; w < end; w += melspec::kStep, x += melspec::kStep)
          for (int i = 0; i < melspec::kStep; ++i) sums[i] += x[i] * melspec::all(w[i]);
        values[m] = melspec::magnitude((sums[0] + sums[2]) + (sums[1] + sums[3]));
      }
      melspec::decibels(values, n_mels, melspec::kLeast, false);
      const int together = n_frames - t < kLanes ? static_cast<int>(n_frames - t) : kLanes;
      float *to = out + (static_cast<int64_t>(n_mels - 1) * n_frames + t) * n_channels + c;
      for (int m = 0; m < n_mels; ++m, to -= static_cast<int64_t>(n_frames) * n_channels) {
        const Vec level = values[m], none = {};
        const Vec value = level > melspec::all(-1022.0 * melspec::kPerOctave)
                              ? melspec::exp2(level * melspec::all(octaves))
                              : none;
        for (int lane = 0; lane < kLanes; ++lane)
          if (lane < together) to[lane * n_channels] = static_cast<float>(value[lane]);
      }
    }
  }
  return n_frames;
}
