#ifndef CKERNELS_H
#define CKERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "CQuantize.h"

/// A weight matrix in layout `panel16` (formats/blocks.md). No byte in it can make a kernel read or
/// write outside of what the sizes say.
typedef struct {
  /// Codes of a quantized matrix, or its elements.
  const void *codes;
  const int8_t *block_scales;
  const float *row_scales;
  /// Sixteen entries, of 4-bit encodings.
  const int8_t *codebook;
  /// `padded_columns` factors, or null for 1.
  const float *column_scales;
  int64_t padded_columns;
  /// Columns that share a block scale: 16 or 32; 0 for unquantized encodings.
  int32_t block_size;
  /// Bits of a code or an element: 4, 8, 16 (bfloat16) or 32.
  int32_t element_bits;
} ck_weights;

/// The activations of a batch of tokens, in the order in which products read them.
///
/// Columns are cut into tiles of `tile_columns`, the last one shorter. Tokens form groups: as many
/// full ones of `ck_token_group` tokens as there are, then a smaller one. Tiles follow each other; a tile holds group after group. The part of the group of w tokens that
/// begins with token t, in the tile of c columns that begins with column k, starts at element
/// k * tokens + t * c. In it, the tokens are interleaved four codes (or one float32 value) at a
/// time: four codes of token t + g from the tile's column 4 i on begin at byte 4 * (i * w + g), the
/// value of its column i is element i * w + g. Scales are laid out as values, with blocks for
/// columns.
typedef struct {
  const int8_t *codes;
  const float *scales;
  /// Laid out as scales: with what a block's sum of products begins, as kernels want it that
  /// multiply by biased weights.
  const int32_t *starts;
  /// Float32 values, for products without codes.
  const float *values;
  int64_t tokens;
} ck_activations;

/// How keys and values are cached (formats/numerics.md).
enum { CK_CACHE_F32, CK_CACHE_F16, CK_CACHE_Q8 };

/// The keys and values of one KV head at 256 positions. `head_size`, here and below, is padded with
/// zeros to a multiple of 16.
///
/// In f32 and f16, element d of the key of position p is element (p / 16 * head_size + d) * 16 +
/// p % 16 of `keys`, that of its value is element p * head_size + d of `values`. In q8, these are
/// bytes (p / 16 * head_size + d / 4 * 4) * 16 + p % 16 * 4 + d % 4 and (p / 4 * head_size + d) * 4 +
/// p % 4, and every position has a scale in `key_scales` and `value_scales`.
typedef struct {
  void *keys, *values;
  float *key_scales, *value_scales;
  int32_t type;
  /// The keys that will be read next, those of another tile; any address will do.
  const void *next;
} ck_cache_tile;

/// One query on its way through the tiles of a KV head, in order of position.
typedef struct {
  const float *values;
  /// The query in int8, for q8.
  const int8_t *codes;
  /// The weighted sum of values so far, `head_size` long.
  float *output;
  /// Of the codes: what they are multiples of.
  float scale;
  /// Of the streaming softmax so far; (-infinity, 0) before the first tile.
  float maximum, sum;
  /// Positions of the tile at hand that it attends to; scratch.
  int32_t count;
  /// Positions that it attends to at all, from position 0 on.
  int64_t positions;
} ck_query;

/// The tokens and the state of one head of a Mamba2 layer (formats/numerics.md).
typedef struct {
  /// Element n of feature d at `n * head_size + d`, where `head_size` is padded to a multiple of 16.
  float *state;
  /// Features, B and C of the first token; those of the next follow after `stride`.
  const float *inputs, *written, *read;
  int64_t stride;
  /// Time step and decay of each token.
  const float *steps, *decays;
  float skip;
  float *outputs;
  int64_t output_stride, tokens, head_size, state_size;
} ck_scan;

/// The kernels of one instruction set. Scalar references in Swift define their results.
typedef struct {
  /// Tokens that are one group of activations, tokens in the groups of more at most, columns in a
  /// full tile.
  int32_t stream_tokens, token_group, tile_columns;

  /// Quantizes columns `begin ..< end`, whole blocks of the `padded_columns`, of one of `tokens` tokens
  /// into its places in `codes`, `scales` and `starts`, which are laid out as `ck_activations` says;
  /// those from `columns` on are zeros. False if a value is not finite.
  bool (*quantize)(const float *input, const float *column_scales, int64_t columns,
                   int64_t padded_columns, int64_t begin, int64_t end, int32_t block_size,
                   int64_t token, int64_t tokens, int8_t *codes, float *scales, int32_t *starts);

  /// Products of panels `first ..< last` of a quantized matrix with int8 activations; output row
  /// `r` of token `t` is `output[t * output_stride + r]`.
  void (*multiply_int8)(const ck_weights *weights, const ck_activations *activations,
                        float *output, int64_t output_stride, int64_t first, int64_t last);

  /// The same for a matrix of any encoding and float32 activations.
  void (*multiply_f32)(const ck_weights *weights, const ck_activations *activations,
                       float *output, int64_t output_stride, int64_t first, int64_t last);

  void (*rms_norm)(const float *input, const float *weight, int64_t count, float epsilon,
                   float *output);

  void (*layer_norm)(const float *input, const float *weight, const float *bias, int64_t count,
                     float epsilon, float *output);

  void (*gated_silu)(const float *gate, const float *up, int64_t count, float *output);

  void (*gelu)(const float *input, int64_t count, float *output);

  /// Convolves each of `count` channels by itself over `taps` rows, the oldest first, from `bias` on,
  /// then takes silu. The weights of a tap follow those of the one before after `weight_stride`.
  void (*convolve)(const float *const *rows, int64_t taps, const float *weights,
                   int64_t weight_stride, const float *bias, int64_t count, float *output);

  /// Takes the state of a head through tokens, at least one.
  void (*scan)(const ck_scan *scan);

  /// Enters the key and the value of one position of a tile: `size` <= `head_size` elements of each.
  /// False where one is beyond what the type of the cache can hold; the position is then undefined,
  /// but safe to read.
  bool (*enter)(const ck_cache_tile *tile, const float *key, const float *value, int64_t size,
                int64_t head_size, int64_t position);

  /// Quantizes a query to int8, in the form in which `attend` takes it: returns the scale, NaN where
  /// a value is not finite. `size` is a multiple of 16.
  float (*quantize_query)(const float *values, int64_t size, int8_t *codes);

  /// Adds the tile that begins at `position` to the attention of `count` queries, in ascending order
  /// of the positions that they attend to. Reads whole groups of sixteen keys, in q8 of thirty-two
  /// values; what they hold past the queries' positions does not matter.
  void (*attend)(const ck_cache_tile *tile, int64_t position, ck_query *queries, int64_t count,
                 int64_t head_size, float scale);

  /// Adds the results of `count` queries for later positions, `later`, to those of `queries`.
  void (*merge)(ck_query *queries, const ck_query *later, int64_t count, int64_t head_size);

  /// Divides `count` (a multiple of 16) values by `divisor`.
  void (*divide)(float *values, float divisor, int64_t count);

  /// Reads memory as fast as loads go; the result only keeps the loads alive. `byte_count` is a
  /// multiple of 256.
  uint64_t (*read)(const void *memory, int64_t byte_count);

  /// Runs independent chains of int8 multiply-adds in registers; returns the number of operations
  /// (a multiply and an add count as two) and leaves a checksum in `sink`.
  int64_t (*int8_chains)(int64_t iterations, int32_t *sink);

  /// The same with float32 fused multiply-adds.
  int64_t (*fma_chains)(int64_t iterations, int32_t *sink);

  /// The weighted sum of `row_count` > 0 rows of `count` (a multiple of 16) values.
  void (*mix)(const float *const *rows, const float *weights, int64_t row_count, int64_t count,
              float *output);

  /// The time steps of one head, of which the raw ones lie `stride` apart, and what a state keeps over
  /// each, for a `rate` <= 0.
  void (*time_steps)(const float *raw, int64_t stride, float bias, float rate, int64_t tokens,
                     float *steps, float *decays);

  /// Turns a head of `size` values, an even number; `output` may be the head.
  void (*rotate)(const float *head, const float *cosines, const float *sines, int64_t size,
                 float *output);
} ck_kernels;

/// The kernels for AVX2, FMA and F16C; null where this processor or this build lacks them.
const ck_kernels *ck_kernels_avx2(void);
/// The kernels for AVX2, FMA and AVX-VNNI; null where this processor or this build lacks them.
const ck_kernels *ck_kernels_avxvnni(void);
/// The same kernels for AVX-512 F, VL and VNNI.
const ck_kernels *ck_kernels_avx512vl(void);
/// The kernels for AVX-512 F, BW, DQ, VL and VNNI; null where this processor or build lacks them.
const ck_kernels *ck_kernels_avx512vnni(void);
/// The same kernels with what VBMI has for them.
const ck_kernels *ck_kernels_avx512vbmi(void);
/// The kernels for NEON with dot products of int8; null where this processor or build lacks them.
const ck_kernels *ck_kernels_neon(void);

/// Name of the processor feature `index` that some instruction set here needs, and whether this
/// processor and operating system have it; null when `index` is past the last.
const char *ck_cpu_feature(int32_t index, bool *present);

/// Reads memory without any of the above.
uint64_t ck_read_portably(const void *memory, int64_t byte_count);

/// Tokens in every group of `tokens` but the last, for groups of up to `token_group`: as many as
/// leave the last one few less.
static inline int64_t ck_token_group(int64_t tokens, int64_t stream_tokens, int64_t token_group) {
  if (tokens <= stream_tokens) return tokens;
  int64_t groups = (tokens + token_group - 1) / token_group;
  return (tokens + groups - 1) / groups;
}

/// Asks for bytes to be brought into the second-level cache of the thread's processor.
static inline void ck_prefetch(const void *bytes, int64_t count) {
  for (int64_t line = 0; line < count; line += 64)
    __builtin_prefetch((const char *)bytes + line, 0, 2);
}

/// Tells the processor that a loop is waiting for another thread.
static inline void ck_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#endif
