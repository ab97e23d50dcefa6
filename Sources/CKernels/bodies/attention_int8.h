// Scores and weighted values over a cache of int8: exact dot products of codes, four at a time.
// Queries are quantized whole, weights in blocks of 32 positions after the values' scales have been
// multiplied into them. Keys are biased as weights are.

// Positions that a quantized block of weights covers.
#define WEIGHT_BLOCK 32

INLINE void score_groups_int8(const ck_cache_tile *tile, const ck_query *queries,
                              const float *factors, const int32_t *starts, int64_t group,
                              int64_t head_size, float *scores, const int width,
                              const int vectors) {
  i32x16 sums[ATTENTION_SUMS];
#pragma clang loop unroll(full)
  for (int i = 0; i < width * vectors; i++) sums[i] = i_set1(starts[i / vectors]);
  for (int64_t d = 0; d < head_size; d += 4) {
    operand keys[4 * ATTENTION_SUMS / QUERY_BLOCK];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      int64_t line = ((group + v) * head_size + d) * 16;
      keys[v] = operand_of_bytes((const int8_t *)tile->keys + line);
      if (width < QUERY_BLOCK) __builtin_prefetch((const int8_t *)tile->values + line);
    }
#pragma clang loop unroll(full)
    for (int q = 0; q < width; q++) {
      i32x16 four = broadcast4(queries[q].codes + d);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        sums[q * vectors + v] = dot4(sums[q * vectors + v], keys[v], four);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int q = 0; q < width; q++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      f32x16 factor = f_mul(f_set1(factors[q]), f_load(tile->key_scales + (group + v) * 16));
      f_store(scores + q * TILE + (group + v) * 16,
              f_mul(f_from_i32(sums[q * vectors + v]), factor));
    }
  }
}

INLINE void score_int8(const ck_cache_tile *tile, const ck_query *queries, int64_t groups,
                       int64_t head_size, float scale, float *scores, const int width) {
  const int vectors = SCORE_VECTORS(width);
  float factors[QUERY_BLOCK];
  int32_t starts[QUERY_BLOCK] = {0};
  for (int q = 0; q < width; q++) {
    factors[q] = queries[q].scale * scale;
    for (int64_t d = 0; WEIGHT_BIAS && d < head_size; d++) {
      starts[q] -= WEIGHT_BIAS * queries[q].codes[d];
    }
  }
  int64_t g = 0;
  for (; g + vectors <= groups; g += vectors) {
    score_groups_int8(tile, queries, factors, starts, g, head_size, scores, width, vectors);
  }
  for (; g < groups; g++) {
    score_groups_int8(tile, queries, factors, starts, g, head_size, scores, width, 1);
  }
}

// Quantizes a query's weights, times the values' scales; none is negative.
INLINE void quantize_weights(const float *weights, const float *value_scales, int64_t blocks,
                             int8_t *codes, float *scales) {
  for (int64_t b = 0; b < blocks; b++) {
    int64_t p = b * WEIGHT_BLOCK;
    f32x16 low = f_mul(f_load(weights + p), f_load(value_scales + p));
    f32x16 high = f_mul(f_load(weights + p + 16), f_load(value_scales + p + 16));
    float amax = f_maximum(f_max(high, f_max(low, f_set1(0))));
    bool vanishes = amax < 0x1p-100f;
    f32x16 inverse = f_set1(vanishes ? 0 : 127 / amax);
    i8x16 bytes = i_to_i8(i_from_f32(f_mul(low, inverse)));
    memcpy(codes + p, &bytes, 16);
    bytes = i_to_i8(i_from_f32(f_mul(high, inverse)));
    memcpy(codes + p + 16, &bytes, 16);
    scales[b] = vanishes ? 0 : amax / 127;
  }
}

INLINE void weigh_elements_int8(const ck_cache_tile *tile, ck_query *queries, int64_t blocks,
                                int64_t head_size, const int8_t *codes, const float *scales,
                                const joining *with, int64_t d, const int width,
                                const int vectors) {
  f32x16 sums[ATTENTION_SUMS];
#pragma clang loop unroll(full)
  for (int i = 0; i < width * vectors; i++) sums[i] = f_set1(0);
  for (int64_t b = 0; b < blocks; b++) {
    i32x16 dots[ATTENTION_SUMS];
#pragma clang loop unroll(full)
    for (int i = 0; i < width * vectors; i++) dots[i] = i_zero();
#pragma clang loop unroll(full)
    for (int p = 0; p < WEIGHT_BLOCK; p += 4) {
      i32x16 values[4];
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        int64_t line = (b * WEIGHT_BLOCK + p) * head_size + d * 4 + v * 64;
        values[v] = i_load((const int8_t *)tile->values + line);
        if (width < QUERY_BLOCK) __builtin_prefetch((const int8_t *)tile->next + line);
      }
#pragma clang loop unroll(full)
      for (int q = 0; q < width; q++) {
        i32x16 four = broadcast4(codes + q * TILE + b * WEIGHT_BLOCK + p);
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
          dots[q * vectors + v] = dot4_positive(dots[q * vectors + v], four, values[v]);
        }
      }
    }
#pragma clang loop unroll(full)
    for (int q = 0; q < width; q++) {
      f32x16 scale = f_set1(scales[q * (TILE / WEIGHT_BLOCK) + b]);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        int i = q * vectors + v;
        sums[i] = f_fma(f_from_i32(dots[i]), scale, sums[i]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int q = 0; q < width; q++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      join_values(queries[q].output + d + v * 16, sums[q * vectors + v], with, q);
    }
  }
}

INLINE void weigh_int8(const ck_cache_tile *tile, ck_query *queries, int64_t blocks,
                       int64_t head_size, const float *weights, const joining *with,
                       const int width) {
  int8_t codes[QUERY_BLOCK * TILE];
  float scales[QUERY_BLOCK * (TILE / WEIGHT_BLOCK)];
  for (int q = 0; q < width; q++) {
    quantize_weights(weights + q * TILE, tile->value_scales, blocks, codes + q * TILE,
                     scales + q * (TILE / WEIGHT_BLOCK));
  }
  // Twice as many registers as without integer sums beside the others.
  const int vectors = VALUE_VECTORS(width) > 1 ? VALUE_VECTORS(width) / 2 : 1;
  int64_t d = 0;
  for (; d + 16 * vectors <= head_size; d += 16 * vectors) {
    weigh_elements_int8(tile, queries, blocks, head_size, codes, scales, with, d, width, vectors);
  }
  for (; d < head_size; d += 16) {
    weigh_elements_int8(tile, queries, blocks, head_size, codes, scales, with, d, width, 1);
  }
}
