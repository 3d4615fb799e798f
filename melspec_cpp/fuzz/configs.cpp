#include "configs.h"

#include <cfloat>
#include <climits>
#include <cmath>

namespace fuzz {
namespace {

double any_double(Choices &choices) {
  const uint64_t bits = choices.bits();
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

double odd_double(Choices &choices, double value) {
  switch (choices.below(4)) {
    case 0:
      return any_double(choices);
    case 1:
      return choices.pick({-value, std::nextafter(value, -INFINITY), std::nextafter(value, INFINITY), value * 2});
    case 2:
      return choices.pick({double{NAN}, -double{NAN}, double{INFINITY}, -double{INFINITY}});
    default:
      return choices.pick({0.0,    -0.0,   5e-324, -5e-324, DBL_MIN / 2, DBL_MIN, DBL_MAX, -DBL_MAX,
                           1e-301, 1e-300, 1e-151, 1e-149,  1e-20,       1.0,     1e15,    1e149,
                           1e151,  1e299,  1e301,  3999.5,  4000.0,      48000.0, 48000.5});
  }
}

int32_t odd_int(Choices &choices, int32_t value) {
  switch (choices.below(3)) {
    case 0:
      return static_cast<int32_t>(choices.bits(4));
    case 1:
      return value + static_cast<int32_t>(value < INT_MAX) * choices.pick({-1, 1});
    default:
      return choices.pick({INT_MIN, INT_MIN + 1, -4096, -2,    -1,      0,           1,      2,
                           3,       128,         255,   256,   257,     384,         4095,   4096,
                           4097,    7999,        8192,  96001, 1 << 30, INT_MAX - 1, INT_MAX});
  }
}

// Powers that a logarithm takes; of a magnitude it is the square's.
double level(Choices &choices, int32_t power) {
  const double exponent = choices.once_in(4) ? 290 * (2 * choices.unit() - 1) : -12 + 14 * choices.unit();
  return std::pow(10.0, power == 1 ? exponent / 2 : exponent);
}

}  // namespace

melspec_config valid_config(Choices &choices) {
  melspec_config c;
  memset(&c, 0, sizeof c);
  c.abi_version = MELSPEC_ABI_VERSION;
  c.sample_rate = choices.once_in(4) ? static_cast<int32_t>(choices.between(8000, 96000))
                                     : choices.pick({8000, 16000, 22050, 32000, 44100, 48000, 96000});
  c.n_fft = choices.pick({256, 256, 256, 256, 256, 256, 256, 256, 512, 512, 512, 512, 1024, 1024, 2048, 4096});
  const int32_t n = c.n_fft;
  c.win_length =
      choices.once_in(3) ? static_cast<int32_t>(choices.between(1, n)) : choices.pick({n, n, n, n - 1, 1, 2});
  switch (choices.below(6)) {
    case 0:
      c.hop_length = choices.pick({1, 2, 3, n - 1, n, n + 1});
      break;
    case 1:
      c.hop_length = choices.pick({2 * n, 3 * n + 1, 1000000, 1 << 30, INT_MAX});
      break;
    case 2:
      c.hop_length = static_cast<int32_t>(choices.between(1, 2 * n));
      break;
    default:
      c.hop_length = n / choices.pick({1, 2, 3, 4, 5, 8});
  }
  c.center = static_cast<int32_t>(choices.below(2));
  c.pad_mode = static_cast<int32_t>(choices.below(2));
  c.power = static_cast<int32_t>(choices.between(1, 2));
  c.n_mels = choices.once_in(4) ? static_cast<int32_t>(choices.between(1, n == 256 ? 256 : 64))
                                : choices.pick({1, 2, 3, 4, 5, 8, 8, 13, 16, 16, 32, n == 256 ? 256 : 40});
  c.mel_scale = static_cast<int32_t>(choices.below(2));
  c.mel_norm = static_cast<int32_t>(choices.below(2));
  const double top = c.sample_rate / 2.0;
  c.f_min = choices.once_in(2) ? top * choices.unit() : choices.pick({0.0, -0.0, 20.0, 150.0});
  c.f_max = choices.once_in(2) ? c.f_min + (top - c.f_min) * choices.unit() : top;
  if (c.f_max - c.f_min < 1e-3) c.f_max = top;
  c.amin = level(choices, c.power);
  c.ref_mode = static_cast<int32_t>(choices.below(2));
  c.ref = c.ref_mode == MELSPEC_REF_MAX ? any_double(choices) : level(choices, c.power);
  c.has_top_db = static_cast<int32_t>(choices.below(2));
  c.top_db = c.has_top_db ? choices.pick({80.0, 0.0, 1e-300, 120.0 * choices.unit(), DBL_MAX}) : any_double(choices);
  c.db_offset = choices.pick({0.0, 50.0, -100.0 * choices.unit(), DBL_MAX});
  c.db_scale = choices.pick({1.0, -1.0, 0.025, 1e-3 + choices.unit(), 5e-324});
  return c;
}

melspec_config doubtful_config(Choices &choices) {
  melspec_config c = valid_config(choices);
  unsigned char *const bytes = reinterpret_cast<unsigned char *>(&c);
  const int64_t kind = choices.below(16), size = sizeof c;
  if (kind == 0) {
    for (int64_t i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(choices.bits(1));
    if (choices.once_in(2)) c.abi_version = MELSPEC_ABI_VERSION;
  } else if (kind == 1) {
    for (int64_t n = choices.between(1, 8); n > 0; --n) {
      const int64_t at = choices.below(size);
      bytes[at] = static_cast<unsigned char>(choices.bits(1));
    }
  } else if (kind < 8) {
    double *const fields[] = {&c.f_min, &c.f_max, &c.amin, &c.ref, &c.top_db, &c.db_offset, &c.db_scale};
    double *const field = fields[choices.below(sizeof fields / sizeof *fields)];
    *field = odd_double(choices, *field);
  } else {
    int32_t *const fields[] = {&c.abi_version, &c.sample_rate, &c.n_fft,    &c.win_length, &c.hop_length,
                               &c.window,      &c.center,      &c.pad_mode, &c.power,      &c.n_mels,
                               &c.mel_scale,   &c.mel_norm,    &c.ref_mode, &c.has_top_db};
    int32_t *const field = fields[choices.below(sizeof fields / sizeof *fields)];
    *field = odd_int(choices, *field);
  }
  return c;
}

Verdict verdict(const melspec_config &c) {
  const auto outside = [](int32_t value, int32_t least, int32_t most) { return value < least || value > most; };
  // NaN is in no range.
  const auto is_level = [&c](double value, double least) {
    const double power = c.power == 1 ? value * value : value;
    return value > 0 && power >= least && power <= 1e300;
  };
  Verdict v = {0, 0};
  v.must |= fault_if(c.abi_version != MELSPEC_ABI_VERSION, MELSPEC_ERROR_ABI_VERSION);
  v.must |= fault_if(outside(c.sample_rate, 8000, 96000), MELSPEC_ERROR_SAMPLE_RATE);
  v.must |= fault_if(c.n_fft != 256 && c.n_fft != 512 && c.n_fft != 1024 && c.n_fft != 2048 && c.n_fft != 4096,
                     MELSPEC_ERROR_N_FFT);
  v.must |= fault_if(outside(c.win_length, 1, c.n_fft), MELSPEC_ERROR_WIN_LENGTH);
  v.must |= fault_if(c.hop_length < 1, MELSPEC_ERROR_HOP_LENGTH);
  v.must |= fault_if(c.window != MELSPEC_WINDOW_HANN, MELSPEC_ERROR_WINDOW);
  v.must |= fault_if(outside(c.center, 0, 1) || outside(c.pad_mode, 0, 1), MELSPEC_ERROR_PADDING);
  v.must |= fault_if(outside(c.power, 1, 2), MELSPEC_ERROR_POWER);
  v.must |= fault_if(outside(c.n_mels, 1, 256), MELSPEC_ERROR_N_MELS);
  v.must |= fault_if(!(c.f_min >= 0 && c.f_min < c.f_max && c.f_max <= c.sample_rate / 2.0), MELSPEC_ERROR_FREQUENCIES);
  v.must |= fault_if(outside(c.mel_scale, 0, 1), MELSPEC_ERROR_MEL_SCALE);
  v.must |= fault_if(outside(c.mel_norm, 0, 1), MELSPEC_ERROR_MEL_NORM);
  v.must |= fault_if(!is_level(c.amin, 1e-300), MELSPEC_ERROR_AMIN);
  v.must |= fault_if(outside(c.ref_mode, 0, 1) || (c.ref_mode == MELSPEC_REF_FIXED && !is_level(c.ref, 0)),
                     MELSPEC_ERROR_REF);
  v.must |= fault_if(outside(c.has_top_db, 0, 1) || (c.has_top_db && !(c.top_db >= 0 && c.top_db <= DBL_MAX)),
                     MELSPEC_ERROR_TOP_DB);
  v.must |=
      fault_if(!std::isfinite(c.db_offset) || !std::isfinite(c.db_scale) || c.db_scale == 0, MELSPEC_ERROR_SCALING);
  v.may = fault_if(c.f_max - c.f_min < 1e-9 * std::fmax(c.f_max, 700), MELSPEC_ERROR_FREQUENCIES);
  return v;
}

bool is_relative(const melspec_config &c, int32_t output) {
  return output != MELSPEC_OUTPUT_POWER && (c.ref_mode == MELSPEC_REF_MAX || c.has_top_db);
}

bool is_tame(const melspec_config &c) {
  return c.f_max - c.f_min >= 100 && std::fabs(c.db_offset) < 1e9 && std::fabs(c.db_scale) < 1e9;
}

}  // namespace fuzz
