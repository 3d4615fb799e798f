/* melspec: librosa's mel spectrogram, in decibels if you like, as a C library without dependencies.
 *
 * The same functions are exported by melspec.wasm, which has no imports: any WebAssembly host can call them.
 * docs/frontend-spec.md says exactly what is computed; this header says how to call it.
 *
 * Conventions
 *   - Every int32_t result is a count (>= 0) or one of the negative melspec_error codes; of the bad_sample functions, an
 *     index or -1.
 *   - Memory is little-endian; in WebAssembly a pointer is a 4-byte offset into the exported `memory`, and that memory
 *     may grow during any call that allocates (melspec_alloc, melspec_create, melspec_run, melspec_run_job,
 *     melspec_stream_create, melspec_law_create): take fresh views after it.
 *   - Pointers are checked for null and alignment, and in WebAssembly for lying inside the memory.
 *   - A plan, or a law, is used by one thread at a time; different ones are independent of each other.
 *   - Results are the same bits in every build made without contraction of multiply-adds.
 *
 * The ABI grows by new functions; the version changes only when one of these, or melspec_config, changes its meaning.
 */
#ifndef MELSPEC_H
#define MELSPEC_H

#include <stdint.h>

#ifdef MELSPEC_API
/* said on the command line: a module that is made of this and more need not export it */
#elif defined __wasm__
#define MELSPEC_API(name) __attribute__((export_name(#name)))
#else
#define MELSPEC_API(name) __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define MELSPEC_ABI_VERSION 1

enum melspec_window_function { MELSPEC_WINDOW_HANN = 0 }; /* periodic */
enum melspec_pad_mode { MELSPEC_PAD_CONSTANT = 0, MELSPEC_PAD_REFLECT = 1 };
enum melspec_mel_scale { MELSPEC_SCALE_SLANEY = 0, MELSPEC_SCALE_HTK = 1 };
enum melspec_mel_norm { MELSPEC_NORM_NONE = 0, MELSPEC_NORM_SLANEY = 1 };
enum melspec_ref_mode { MELSPEC_REF_FIXED = 0, MELSPEC_REF_MAX = 1 };

/* What melspec_run writes. */
enum melspec_output {
  MELSPEC_OUTPUT_POWER = 0,    /* mel power (or mel magnitude, where config.power is 1) */
  MELSPEC_OUTPUT_DECIBELS = 1, /* decibels against the reference */
  MELSPEC_OUTPUT_SCALED = 2    /* (decibels + db_offset) * db_scale */
};

/* A library made from melspec.wasm by wasm2c has codes below -100 as well: the module trapped. */
enum melspec_error {
  MELSPEC_OK = 0,
  MELSPEC_ERROR_POINTER = -1,
  MELSPEC_ERROR_ABI_VERSION = -2,
  MELSPEC_ERROR_SAMPLE_RATE = -3,
  MELSPEC_ERROR_N_FFT = -4,
  MELSPEC_ERROR_WIN_LENGTH = -5,
  MELSPEC_ERROR_HOP_LENGTH = -6,
  MELSPEC_ERROR_WINDOW = -7,
  MELSPEC_ERROR_PADDING = -8,
  MELSPEC_ERROR_POWER = -9,
  MELSPEC_ERROR_N_MELS = -10,
  MELSPEC_ERROR_FREQUENCIES = -11,
  MELSPEC_ERROR_MEL_SCALE = -12,
  MELSPEC_ERROR_MEL_NORM = -13,
  MELSPEC_ERROR_AMIN = -14,
  MELSPEC_ERROR_REF = -15,
  MELSPEC_ERROR_TOP_DB = -16,
  MELSPEC_ERROR_SCALING = -17,
  MELSPEC_ERROR_MEMORY = -18,
  MELSPEC_ERROR_PLAN = -19,
  MELSPEC_ERROR_N_SAMPLES = -20,
  MELSPEC_ERROR_TOO_LONG = -21,
  MELSPEC_ERROR_CAPACITY = -22,
  MELSPEC_ERROR_OUTPUT = -23,
  MELSPEC_ERROR_NOT_FINITE = -24,
  MELSPEC_ERROR_STREAM = -25,
  MELSPEC_ERROR_STEP = -26,
  MELSPEC_ERROR_IN_USE = -27,
  MELSPEC_ERROR_CHANNELS = -28,
  MELSPEC_ERROR_EXPONENT = -29,
  MELSPEC_ERROR_PEAK = -30,
  MELSPEC_ERROR_LAW = -31,
  MELSPEC_ERROR_FIRST_SAMPLE = -32
};

/* All constants of a front end: 112 bytes, 8-byte aligned, the same layout on 32- and 64-bit machines. */
typedef struct melspec_config {
  double f_min;        /*   0  lower edge of the first band, Hz, >= 0 */
  double f_max;        /*   8  upper edge of the last band, Hz, f_min < f_max <= sample_rate / 2 */
  double amin;         /*  16  floor under power (or magnitude) before the logarithm, > 0 */
  double ref;          /*  24  power (or magnitude) of 0 dB, > 0; ignored with MELSPEC_REF_MAX */
  double top_db;       /*  32  lowest value below the array's maximum, dB, >= 0; ignored without has_top_db */
  double db_offset;    /*  40  dB */
  double db_scale;     /*  48  per dB, not 0 */
  int32_t abi_version; /*  56  MELSPEC_ABI_VERSION */
  int32_t sample_rate; /*  60  Hz, 8000 to 96000 */
  int32_t n_fft;       /*  64  samples per frame, a power of two, 256 to 4096 */
  int32_t win_length;  /*  68  samples, 1 to n_fft; shorter windows are zero-padded on both sides */
  int32_t hop_length;  /*  72  samples from frame to frame, >= 1 */
  int32_t window;      /*  76  melspec_window_function */
  int32_t center;      /*  80  1: frames are centred, n_fft / 2 samples padded at both ends; 0: they are not */
  int32_t pad_mode;    /*  84  melspec_pad_mode */
  int32_t power;       /*  88  exponent of the magnitude, 1 or 2 */
  int32_t n_mels;      /*  92  bands, 1 to 256 */
  int32_t mel_scale;   /*  96  melspec_mel_scale */
  int32_t mel_norm;    /* 100  melspec_mel_norm */
  int32_t ref_mode;    /* 104  melspec_ref_mode */
  int32_t has_top_db;  /* 108  1: top_db holds; 0: no such limit */
} melspec_config;

typedef struct melspec_plan melspec_plan;

/* MELSPEC_ABI_VERSION of the module. Ask this first. */
MELSPEC_API(melspec_abi_version) int32_t melspec_abi_version(void);

/* sizeof(melspec_config) in the module, so that a host can check its own packing. */
MELSPEC_API(melspec_config_size) int32_t melspec_config_size(void);

/* One sentence for a code, NUL-terminated ASCII, owned by the module, never null. */
MELSPEC_API(melspec_message) const char *melspec_message(int32_t code);

/* `bytes` of 16-byte aligned memory, not cleared, or null. The caller frees it. Hosts in another address space
 * (WebAssembly) need it for the config, the samples and the output; native callers may use their own memory. */
MELSPEC_API(melspec_alloc) void *melspec_alloc(int32_t bytes);

/* Gives memory of melspec_alloc back; null is allowed. In WebAssembly what is not such memory, or was given back already,
 * is left alone. */
MELSPEC_API(melspec_free) void melspec_free(void *memory);

/* Checks `config` (which is copied, and stays the caller's), computes window, filter bank and twiddles, and writes the
 * plan's address to *plan. Returns MELSPEC_OK or a code; then *plan is null. The caller destroys the plan. */
MELSPEC_API(melspec_create) int32_t melspec_create(const melspec_config *config, melspec_plan **plan);

/* Frees a plan; null is allowed. Returns MELSPEC_OK, MELSPEC_ERROR_PLAN, or MELSPEC_ERROR_IN_USE while it has streams. */
MELSPEC_API(melspec_destroy) int32_t melspec_destroy(melspec_plan *plan);

/* Frames that n_samples give (librosa's count), 0 where not one fits; MELSPEC_ERROR_TOO_LONG beyond 2^31 - 1. */
MELSPEC_API(melspec_frames) int32_t melspec_frames(const melspec_plan *plan, int32_t n_samples);

/* Bytes of the output for n_samples: n_mels * frames * 4, or MELSPEC_ERROR_TOO_LONG beyond 2^31 - 1. */
MELSPEC_API(melspec_bytes) int32_t melspec_bytes(const melspec_plan *plan, int32_t n_samples);

/* Reads n_samples floats (mono, full scale +-1), writes n_mels * frames floats, row-major [n_mels, frames], and returns
 * the number of frames. `output` is a melspec_output; `capacity` is the room at `out` in floats. The two buffers must
 * not overlap. On an error nothing is written. A NaN or infinite sample gives MELSPEC_ERROR_NOT_FINITE. */
MELSPEC_API(melspec_run)
int32_t melspec_run(melspec_plan *plan, int32_t output, const float *samples, int32_t n_samples, float *out,
                    int32_t capacity);

/* melspec_run with its arguments in memory, for hosts whose calls cost by the argument. */
typedef struct melspec_job { /* 24 bytes in WebAssembly */
  melspec_plan *plan;
  int32_t output;
  const float *samples;
  int32_t n_samples;
  float *out;
  int32_t capacity;
} melspec_job;
MELSPEC_API(melspec_run_job) int32_t melspec_run_job(const melspec_job *job);

/* Index of the first NaN or infinite sample of the last melspec_run that returned MELSPEC_ERROR_NOT_FINITE, or -1. */
MELSPEC_API(melspec_bad_sample) int32_t melspec_bad_sample(const melspec_plan *plan);

/* Copies the filter bank, row-major [n_mels, 1 + n_fft / 2]; capacity in floats. Returns the number written. */
MELSPEC_API(melspec_filters) int32_t melspec_filters(const melspec_plan *plan, float *out, int32_t capacity);

/* Copies the analysis window, zero-padded to n_fft; capacity in doubles. Returns the number written. */
MELSPEC_API(melspec_window) int32_t melspec_window(const melspec_plan *plan, double *out, int32_t capacity);

/* Streams: samples in chunks of any size in, overlapping windows out. A window is, to the last bit, what melspec_run makes
 * of its window_samples alone, padded edges included; an unpadded frame that two windows share is computed once. Frames
 * are shared by windows on one grid of frames: every p-th window, p = hop_length / gcd(step_samples, hop_length).
 *
 * A stream holds, fixed at its creation, 2 * window_samples floats, one window of output, and n_mels values for each
 * unpadded frame of p windows (floats; doubles, and a window of doubles more, with MELSPEC_REF_MAX or has_top_db).
 * It uses its plan, which cannot be destroyed before it; a plan and its streams are used by one thread at a time. */
typedef struct melspec_stream melspec_stream;

/* A stream of windows that begin at samples 0, step_samples, 2 * step_samples ...; writes its address to *stream. */
MELSPEC_API(melspec_stream_create)
int32_t melspec_stream_create(melspec_plan *plan, int32_t output, int32_t window_samples, int32_t step_samples,
                              melspec_stream **stream);

/* Frees a stream; null is allowed. Returns MELSPEC_OK or MELSPEC_ERROR_STREAM. */
MELSPEC_API(melspec_stream_destroy) int32_t melspec_stream_destroy(melspec_stream *stream);

/* Takes up to n_samples samples, which are copied, and returns how many: fewer only where complete windows wait to be
 * pulled. On a NaN or infinite sample none is taken. */
MELSPEC_API(melspec_stream_push)
int32_t melspec_stream_push(melspec_stream *stream, const float *samples, int32_t n_samples);

/* Computes the next window, if all its samples are there, and returns its number of frames, else 0. */
MELSPEC_API(melspec_stream_pull) int32_t melspec_stream_pull(melspec_stream *stream);

/* Where melspec_stream_pull leaves a window: row-major [n_mels, frames] floats, the stream's own, valid until the next
 * pull; the same address for the stream's whole life. Null for what is not a stream. */
MELSPEC_API(melspec_stream_window) const float *melspec_stream_window(const melspec_stream *stream);

/* melspec_stream_push and melspec_stream_pull in one call: takes samples until a window is complete and computes it. Moves
 * `samples` and `n_samples` past what it took, and returns the window's frames; 0 when all is taken and no window is
 * complete. Call it until it does. A NaN or infinite sample among those to be taken leaves chunk and stream as they were;
 * melspec_stream_bad_sample counts from `samples`. */
typedef struct melspec_chunk { /* 12 bytes in WebAssembly */
  melspec_stream *stream;
  const float *samples;
  int32_t n_samples;
} melspec_chunk;
MELSPEC_API(melspec_stream_run) int32_t melspec_stream_run(melspec_chunk *chunk);

/* Forgets all samples: the next one pushed is sample 0 of a new stream. */
MELSPEC_API(melspec_stream_reset) int32_t melspec_stream_reset(melspec_stream *stream);

/* Index, in the samples given, of the first NaN or infinite one, after melspec_stream_push or melspec_stream_run returned
 * MELSPEC_ERROR_NOT_FINITE; -1 after one of them took samples. */
MELSPEC_API(melspec_stream_bad_sample) int32_t melspec_stream_bad_sample(const melspec_stream *stream);

/* The other front end: maps of the real part of the spectrum, as BirdNET v2.4 computes them. A window of samples is scaled
 * to its peak, (v / (max(v) + peak_epsilon) - peak_offset) * peak_scale with v = x - min(x); unpadded frames are weighted
 * by a periodic Hann window; triangles that are straight in mels of the HTK scale weigh the real part of the spectrum, bin
 * 0 excepted; what is written is (mel^2)^exponent. Scaling, window, windowed samples and weights are float32 and have the
 * bits that TensorFlow gives them, for their rounding is what is left of silence; the rest is computed in float64.
 * docs/frontend-spec.md says it exactly. */
#define MELSPEC_LAW_CHANNELS 4

/* One map: 32 bytes. */
typedef struct melspec_law_channel {
  double f_min;       /*  0  lower edge of the first band, Hz, >= 0 */
  double f_max;       /*  8  upper edge of the last band, Hz, f_min < f_max <= sample_rate / 2 */
  double exponent;    /* 16  0 < exponent <= 1 */
  int32_t n_fft;      /* 24  samples per frame, and of the analysis window, a power of two, 256 to 4096 */
  int32_t hop_length; /* 28  samples from frame to frame, >= 1 */
} melspec_law_channel;

/* All constants: 168 bytes, 8-byte aligned, the same layout on 32- and 64-bit machines. */
typedef struct melspec_law_config {
  double peak_epsilon; /*   0  1e-15 to 1e30 */
  double peak_offset;  /*   8  0, or its magnitude at least 1e-6 */
  double peak_scale;   /*  16  abs(peak_scale) >= 1e-12 and abs(peak_scale) * (1 + abs(peak_offset)) <= 1e12 */
  int32_t abi_version; /*  24  MELSPEC_ABI_VERSION */
  int32_t sample_rate; /*  28  Hz, 8000 to 96000 */
  int32_t n_mels;      /*  32  bands of every channel, 1 to 256 */
  int32_t n_channels;  /*  36  1 to MELSPEC_LAW_CHANNELS */
  melspec_law_channel channels[MELSPEC_LAW_CHANNELS]; /*  40  those behind the last one are zero */
} melspec_law_config;

typedef struct melspec_law melspec_law;

/* sizeof(melspec_law_config) in the module. */
MELSPEC_API(melspec_law_config_size) int32_t melspec_law_config_size(void);

/* Checks `config` (which is copied, and stays the caller's), computes windows, filter banks and twiddles, and writes the
 * law's address to *law. Returns MELSPEC_OK or a code; then *law is null. The caller destroys the law. */
MELSPEC_API(melspec_law_create) int32_t melspec_law_create(const melspec_law_config *config, melspec_law **law);

/* Frees a law; null is allowed. Returns MELSPEC_OK or MELSPEC_ERROR_LAW. */
MELSPEC_API(melspec_law_destroy) int32_t melspec_law_destroy(melspec_law *law);

/* Frames that every channel has in n_samples, 0 where not one fits. */
MELSPEC_API(melspec_law_frames) int32_t melspec_law_frames(const melspec_law *law, int32_t n_samples);

/* Bytes of the output for n_samples: n_mels * frames * n_channels * 4, or MELSPEC_ERROR_TOO_LONG beyond 2^31 - 1. */
MELSPEC_API(melspec_law_bytes) int32_t melspec_law_bytes(const melspec_law *law, int32_t n_samples);

/* Reads n_samples floats, all of which the scale is taken from, and writes the frames of those from first_sample on:
 * n_mels * frames * n_channels floats, row-major [n_mels, frames, n_channels], the highest band first. Returns the number
 * of frames, that of melspec_law_frames for n_samples - first_sample. `capacity` is the room at `out` in floats. The
 * buffers must not overlap. On an error nothing is written. A NaN or infinite sample gives MELSPEC_ERROR_NOT_FINITE. */
MELSPEC_API(melspec_law_run)
int32_t melspec_law_run(melspec_law *law, const float *samples, int32_t n_samples, int32_t first_sample, float *out,
                        int32_t capacity);

/* Index of the first NaN or infinite sample of the last melspec_law_run that returned MELSPEC_ERROR_NOT_FINITE, or -1. */
MELSPEC_API(melspec_law_bad_sample) int32_t melspec_law_bad_sample(const melspec_law *law);

/* Copies a channel's filter bank, row-major [n_mels, 1 + n_fft / 2], the lowest band first; capacity in floats. Returns the
 * number written. */
MELSPEC_API(melspec_law_filters)
int32_t melspec_law_filters(const melspec_law *law, int32_t channel, float *out, int32_t capacity);

#ifdef __cplusplus
}
#endif
#endif
