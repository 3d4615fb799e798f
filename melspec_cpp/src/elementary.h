// Elementary functions for building a plan; run-time code needs none of them.
#pragma once

namespace melspec {

// cos and sin of 2 pi k / n for 0 <= k < n, to about one unit in the last place: the angle is reduced exactly.
void unit_circle(int k, int n, double *cosine, double *sine);

// Correctly rounded but for rare ties: what is cancelled afterwards in the filter bank must not differ from libm's.
double exp(double x);
double log(double x);       // x > 0
double log10(double x);     // x > 0
double exp10(double x);

}  // namespace melspec
