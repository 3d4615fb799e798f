#include "levels.h"

#include "cold.h"

namespace melspec {
namespace {

double decibels_of(double power) { return melspec::decibels(all(power))[0]; }

}  // namespace

MELSPEC_COLD Levels::Levels(const melspec_config &config, melspec_output output)
    : decibels(output != MELSPEC_OUTPUT_POWER),
      relative(decibels && (config.ref_mode == MELSPEC_REF_MAX || config.has_top_db)),
      magnitude(config.power == 1),
      reference_is_max(config.ref_mode == MELSPEC_REF_MAX),
      has_top_db(config.has_top_db),
      // Decibels are of powers: magnitudes, and the constants that are given as such, are squared first.
      amin(magnitude ? config.amin * config.amin : config.amin),
      reference(decibels_of(larger(amin, magnitude ? config.ref * config.ref : config.ref))),
      top_db(config.top_db),
      offset(output == MELSPEC_OUTPUT_SCALED ? config.db_offset : 0.0),
      scale(output == MELSPEC_OUTPUT_SCALED ? config.db_scale : 1.0) {}

void Levels::finish(const double *levels, int64_t count, float *out) const {
  double most = levels[0];
  for (int64_t i = 1; i < count; ++i) most = larger(most, levels[i]);
  const double zero = reference_is_max ? most : reference;
  const double least = has_top_db ? most - zero - top_db : -1e308;
  for (int64_t i = 0; i < count; ++i)
    out[i] = static_cast<float>((larger(levels[i] - zero, least) + offset) * scale);
}

}  // namespace melspec
