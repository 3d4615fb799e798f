#include "levels.h"

#include "cold.h"
#include "decibels.h"

namespace melspec {

MELSPEC_COLD Levels::Levels(const melspec_config &config, melspec_output output)
    : decibels(output != MELSPEC_OUTPUT_POWER),
      relative(decibels && (config.ref_mode == MELSPEC_REF_MAX || config.has_top_db)),
      magnitude(config.power == 1),
      reference_is_max(config.ref_mode == MELSPEC_REF_MAX),
      has_top_db(config.has_top_db),
      amin(magnitude ? config.amin * config.amin : config.amin),
      top_db(config.top_db),
      reference(0.0),
      offset(output == MELSPEC_OUTPUT_SCALED ? config.db_offset : 0.0),
      scale(output == MELSPEC_OUTPUT_SCALED ? config.db_scale : 1.0) {
  if (!decibels) return;
  Vec level = all(config.ref);
  apply(&level, 1);
  reference = level[0];
}

// Decibels are of powers: magnitudes, and the constants that are given as such, are squared first.
void Levels::apply(Vec *values, int count) const {
  if (decibels) melspec::decibels(values, count, amin, magnitude);
}

MELSPEC_COLD void Levels::finish(const double *levels, int64_t count, float *out) const {
  double most = levels[0];
  for (int64_t i = 1; i < count; ++i) most = larger(most, levels[i]);
  const double zero = reference_is_max ? most : reference;
  const double least = has_top_db ? most - zero - top_db : -1e308;
  for (int64_t i = 0; i < count; ++i)
    out[i] = static_cast<float>((larger(levels[i] - zero, least) + offset) * scale);
}

}  // namespace melspec
