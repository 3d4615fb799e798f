/* The header of a WAV file. */
#ifndef LABOUS_WAVE_H
#define LABOUS_WAVE_H

#include "recording.h"

/* What to do about a recording that cannot be taken; of the rate, %d. */
#define WAVE_CONVERT "convert it: ffmpeg -i INPUT -ar %d -c:a pcm_s16le OUTPUT.wav"

/* Reads it up to the first sample: format and promised. `rate` is for the advice alone. */
bool wave_header(recording *recording, int32_t rate);

#endif
