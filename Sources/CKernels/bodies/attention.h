// One tile of streaming attention. Positions sit in lanes for the scores, head dimensions for the
// weighted sum of values; several vectors at once hide the latency of their fma chains.

INLINE float exp1(float x) {
  float lanes[16];
  f_store(lanes, f_exp(f_set1(x)));
  return lanes[0];
}

// Scores of `vectors` groups of sixteen positions, before they are scaled.
INLINE void score_groups(const float *query, const float *keys, int64_t head_size, float *scores,
                         const int vectors) {
  f32x16 sums[INDEPENDENT_VECTORS];
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) sums[v] = f_set1(0);
  for (int64_t d = 0; d < head_size; d++) {
    f32x16 q = f_set1(query[d]);
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      sums[v] = f_fma(q, f_load(keys + (v * head_size + d) * 16), sums[v]);
    }
  }
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) f_store(scores + v * 16, sums[v]);
}

// The weighted sum of `vectors` times sixteen dimensions of the values.
INLINE void weigh_values(const float *weights, const float *values, int64_t count,
                         int64_t head_size, f32x16 *sums, const int vectors) {
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) sums[v] = f_set1(0);
  for (int64_t p = 0; p < count; p++) {
    f32x16 w = f_set1(weights[p]);
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      sums[v] = f_fma(w, f_load(values + p * head_size + v * 16), sums[v]);
    }
  }
}

INLINE void merge_values(const float *weights, const float *values, int64_t count,
                         int64_t head_size, bool first, float old, float new, float *output,
                         const int vectors) {
  f32x16 sums[INDEPENDENT_VECTORS];
  weigh_values(weights, values, count, head_size, sums, vectors);
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) {
    f32x16 merged = sums[v];
    if (!first) {
      merged = f_fma(f_load(output + v * 16), f_set1(old), f_mul(merged, f_set1(new)));
    }
    f_store(output + v * 16, merged);
  }
}

static void attend(const float *query, const float *keys, const float *values, int64_t count,
                   int64_t head_size, float scale, ck_softmax *state, float *output) {
  float weights[256];
  int64_t groups = (count + 15) / 16;
  int64_t group = 0;
  for (; group + INDEPENDENT_VECTORS <= groups; group += INDEPENDENT_VECTORS) {
    score_groups(query, keys + group * head_size * 16, head_size, weights + group * 16,
                 INDEPENDENT_VECTORS);
  }
  for (; group < groups; group++) {
    score_groups(query, keys + group * head_size * 16, head_size, weights + group * 16, 1);
  }
  f32x16 largest = f_set1(-__builtin_inff());
  for (int64_t g = 0; g < groups; g++) {
    f32x16 score = f_mul(f_load(weights + g * 16), f_set1(scale));
    f_store(weights + g * 16, score);
    if (g == groups - 1) {
      // Positions past the last take no part.
      for (int64_t p = count; p < groups * 16; p++) weights[p] = -__builtin_inff();
      score = f_load(weights + g * 16);
    }
    largest = f_max(score, largest);
  }
  float maximum = f_maximum(largest);
  f32x16 lanes = f_set1(0);
  for (int64_t g = 0; g < groups; g++) {
    f32x16 weight = f_exp(f_sub(f_load(weights + g * 16), f_set1(maximum)));
    f_store(weights + g * 16, weight);
    if (g == groups - 1) {
      // Again, because the difference of infinities is not a number.
      for (int64_t p = count; p < groups * 16; p++) weights[p] = 0;
      weight = f_load(weights + g * 16);
    }
    lanes = f_add(lanes, weight);
  }
  float sum = f_sum(lanes);

  bool first = state->maximum == -__builtin_inff() && state->sum == 0;
  float merged = maximum > state->maximum ? maximum : state->maximum;
  float old = first ? 0 : exp1(state->maximum - merged);
  float new = first ? 1 : exp1(maximum - merged);
  int64_t d = 0;
  for (; d + 16 * INDEPENDENT_VECTORS <= head_size; d += 16 * INDEPENDENT_VECTORS) {
    merge_values(weights, values + d, count, head_size, first, old, new, output + d,
                 INDEPENDENT_VECTORS);
  }
  for (; d + 64 <= head_size; d += 64) {
    merge_values(weights, values + d, count, head_size, first, old, new, output + d, 4);
  }
  for (; d < head_size; d += 16) {
    merge_values(weights, values + d, count, head_size, first, old, new, output + d, 1);
  }
  state->sum = first ? sum : __builtin_fmaf(state->sum, old, sum * new);
  state->maximum = merged;
}
