// Quantization of one token's activations into its places in a batch.

// Columns that all tokens go through before the next ones.
#define TILE_COLUMNS 256

// Tokens in a full group of a batch.
INLINE int64_t group_of(int64_t tokens) {
  return ck_token_group(tokens, STREAM_TOKENS, TOKEN_GROUP);
}

// Sixteen values of a token, multiplied by their column scales, with zeros after the last column.
INLINE f32x16 scaled_values(const float *input, const float *column_scales, int64_t column,
                            int64_t columns, const bool whole) {
  int64_t left = columns - column;
  if (!whole && left <= 0) return f_set1(0);
  f32x16 x = whole || left >= 16 ? f_load(input + column) : f_load_some(input + column, left);
  return column_scales ? f_mul(x, f_load(column_scales + column)) : x;
}

// `count` columns of one tile from `begin` on, of which `whole` ones have no padding. Adds x - x to
// `finite`: 0, but not a number where x is not finite.
INLINE f32x16 quantize_part(const float *input, const float *column_scales, int64_t columns,
                            int64_t begin, int64_t count, int64_t width, int8_t *codes,
                            float *scales, int32_t *starts, f32x16 finite, const int block_size,
                            const bool whole) {
  const int vectors = block_size / 16;
  float inverses[TILE_COLUMNS / 16], steps[TILE_COLUMNS / 16];
  int64_t blocks = count / block_size;
  // The largest magnitude of each block in a lane of its own: lanes up to the block's, the last block
  // first. They never go through memory, where a load of what several stores wrote waits for all stores
  // before them, those of the codes included: that took two thirds of the time.
  static const float lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  f32x16 amax = f_set1(0), lane = f_load(lanes);
  for (int64_t block = blocks - 1; block >= 0; block--) {
    f32x16 magnitude = f_set1(0);
    for (int v = 0; v < vectors; v++) {
      f32x16 x = scaled_values(input, column_scales, begin + block * block_size + v * 16, columns,
                               whole);
      finite = f_add(finite, f_sub(x, x));
      magnitude = f_max(f_abs(x), magnitude);
    }
    amax = f_replace_below(amax, lane, f_set1((float)(block + 1)), f_set1(f_maximum(magnitude)));
  }
  // Divisions of all blocks at once; none below the limit counts.
  f32x16 limit = f_set1(0x1p-100f), zero = f_set1(0);
  f_store(inverses, f_replace_below(f_div(f_set1(127), amax), amax, limit, zero));
  f_store(steps, f_replace_below(f_div(amax, f_set1(127)), amax, limit, zero));
  for (int64_t block = 0; block < blocks; block++) {
    scales[block * width] = steps[block];
    f32x16 sums = f_set1(0);  // of a few hundred integers below 128: exact
    for (int v = 0; v < vectors; v++) {
      int64_t column = block * block_size + v * 16;
      f32x16 x = scaled_values(input, column_scales, begin + column, columns, whole);
      // |x| / amax * 127 rounds to 127 at most, so that nothing is left to clamp.
      i32x16 integers = i_from_f32(f_mul(x, f_set1(inverses[block])));
      if (WEIGHT_BIAS) sums = f_add(sums, f_from_i32(integers));
      i8x16 bytes = i_to_i8(integers);
      for (int chunk = 0; chunk < 4; chunk++) {
        memcpy(codes + (column + 4 * chunk) * width, (const char *)&bytes + 4 * chunk, 4);
      }
    }
    if (WEIGHT_BIAS) starts[block * width] = -WEIGHT_BIAS * (int32_t)f_sum(sums);
  }
  return finite;
}

#define QUANTIZE_PART(block_size, whole) \
  quantize_part(input, column_scales, columns, column, part, width, part_codes, part_scales, \
                part_starts, finite, block_size, whole)

static bool quantize(const float *input, const float *column_scales, int64_t columns,
                     int64_t padded_columns, int64_t begin, int64_t end, int32_t block_size,
                     int64_t token, int64_t tokens, int8_t *codes, float *scales,
                     int32_t *starts) {
  int64_t group = group_of(tokens);
  int64_t first = token / group * group;
  int64_t width = tokens - first < group ? tokens - first : group;
  f32x16 finite = f_set1(0);
  for (int64_t column = begin, part; column < end; column += part) {
    int64_t tile = column / TILE_COLUMNS * TILE_COLUMNS, rest = padded_columns - tile;
    int64_t tile_columns = rest < TILE_COLUMNS ? rest : TILE_COLUMNS;
    int64_t tile_end = tile + tile_columns;
    part = (end < tile_end ? end : tile_end) - column;
    int64_t place = tile * tokens + first * tile_columns + (column - tile) * width;
    int8_t *part_codes = codes + place + 4 * (token - first);
    float *part_scales = scales + place / block_size + token - first;
    int32_t *part_starts = starts + place / block_size + token - first;
    bool whole = column + part <= columns;
    finite = block_size == 16 ? whole ? QUANTIZE_PART(16, true) : QUANTIZE_PART(16, false)
             : whole          ? QUANTIZE_PART(32, true)
                              : QUANTIZE_PART(32, false);
  }
  return f_sum(finite) == 0;
}
