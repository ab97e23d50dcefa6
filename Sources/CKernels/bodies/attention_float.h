// Scores and weighted values over a cache of float32 or binary16, which converts on loading.

INLINE f32x16 load_cached(const void *elements, int64_t index, const int type) {
  return type == CK_CACHE_F16 ? f_load_half((const uint16_t *)elements + index)
                              : f_load((const float *)elements + index);
}

// Asks for memory a whole phase ahead, for the cache of a long context comes from far away: for values
// while keys are read, and for the next tile's keys while values are.
INLINE void prefetch_cached(const void *elements, int64_t index, const int type) {
  __builtin_prefetch((const char *)elements + index * (type == CK_CACHE_F16 ? 2 : 4));
}

// Scores of `width` queries with `vectors` groups of sixteen positions from `group` on.
INLINE void score_groups(const ck_cache_tile *tile, const ck_query *queries, int64_t group,
                         int64_t head_size, float scale, float *scores, const int type,
                         const int width, const int vectors) {
  f32x16 sums[ATTENTION_SUMS];
#pragma clang loop unroll(full)
  for (int i = 0; i < width * vectors; i++) sums[i] = f_set1(0);
  for (int64_t d = 0; d < head_size; d++) {
    f32x16 keys[4 * ATTENTION_SUMS / QUERY_BLOCK];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      int64_t index = ((group + v) * head_size + d) * 16;
      keys[v] = load_cached(tile->keys, index, type);
      if (width < QUERY_BLOCK) prefetch_cached(tile->values, index, type);
    }
#pragma clang loop unroll(full)
    for (int q = 0; q < width; q++) {
      f32x16 element = f_set1(queries[q].values[d]);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        sums[q * vectors + v] = f_fma(element, keys[v], sums[q * vectors + v]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int q = 0; q < width; q++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      f_store(scores + q * TILE + (group + v) * 16,
              f_mul(sums[q * vectors + v], f_set1(scale)));
    }
  }
}

INLINE void score_float(const ck_cache_tile *tile, const ck_query *queries, int64_t groups,
                        int64_t head_size, float scale, float *scores, const int type,
                        const int width) {
  const int vectors = SCORE_VECTORS(width);
  int64_t g = 0;
  for (; g + vectors <= groups; g += vectors) {
    score_groups(tile, queries, g, head_size, scale, scores, type, width, vectors);
  }
  for (; g < groups; g++) {
    score_groups(tile, queries, g, head_size, scale, scores, type, width, 1);
  }
}

// Weighs `vectors` times sixteen elements, from `d` on, of the values.
INLINE void weigh_elements(const ck_cache_tile *tile, ck_query *queries, int64_t shortest,
                           int64_t head_size, const float *weights, const joining *with, int64_t d,
                           const int type, const int width, const int vectors) {
  f32x16 sums[ATTENTION_SUMS];
#pragma clang loop unroll(full)
  for (int i = 0; i < width * vectors; i++) sums[i] = f_set1(0);
  for (int64_t p = 0; p < shortest; p++) {
    f32x16 values[4];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      int64_t index = p * head_size + d + v * 16;
      values[v] = load_cached(tile->values, index, type);
      if (width < QUERY_BLOCK) prefetch_cached(tile->next, index, type);
    }
#pragma clang loop unroll(full)
    for (int q = 0; q < width; q++) {
      f32x16 weight = f_set1(weights[q * TILE + p]);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        sums[q * vectors + v] = f_fma(weight, values[v], sums[q * vectors + v]);
      }
    }
  }
  float rest[ATTENTION_SUMS * 16];
#pragma clang loop unroll(full)
  for (int i = 0; i < width * vectors; i++) f_store(rest + i * 16, sums[i]);
  for (int q = 0; q < width; q++) {
    for (int v = 0; v < vectors; v++) {
      f32x16 sum = f_load(rest + (q * vectors + v) * 16);
      for (int64_t p = shortest; p < queries[q].count; p++) {
        f32x16 values = load_cached(tile->values, p * head_size + d + v * 16, type);
        sum = f_fma(f_set1(weights[q * TILE + p]), values, sum);
      }
      join_values(queries[q].output + d + v * 16, sum, with, q);
    }
  }
}

INLINE void weigh_float(const ck_cache_tile *tile, ck_query *queries, int64_t shortest,
                        int64_t head_size, const float *weights, const joining *with,
                        const int type, const int width) {
  const int vectors = VALUE_VECTORS(width);
  int64_t d = 0;
  for (; d + 16 * vectors <= head_size; d += 16 * vectors) {
    weigh_elements(tile, queries, shortest, head_size, weights, with, d, type, width, vectors);
  }
  for (; d < head_size; d += 16) {
    weigh_elements(tile, queries, shortest, head_size, weights, with, d, type, width, 1);
  }
}
