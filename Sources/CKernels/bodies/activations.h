// Quantization of one token's activations into its places in a batch.

// Columns that all tokens go through before the next ones.
#define TILE_COLUMNS 256

static bool quantize(const float *input, const float *column_scales, int64_t columns,
                     int64_t padded_columns, int32_t block_size, int64_t token, int64_t tokens,
                     int8_t *codes, float *scales, int32_t *biases) {
  int64_t first = token / TOKEN_GROUP * TOKEN_GROUP;
  int64_t width = tokens - first < TOKEN_GROUP ? tokens - first : TOKEN_GROUP;
  // x - x is 0, but not a number where x is infinite or not a number.
  f32x16 finite = f_set1(0);
  int64_t vectors = block_size / 16;
  for (int64_t column = 0; column < padded_columns; column += block_size) {
    f32x16 x[2];
    f32x16 largest = f_set1(0);
    for (int64_t v = 0; v < vectors; v++) {
      const float *source = input + column + v * 16;
      int64_t left = columns - column - v * 16;
      x[v] = left >= 16 ? f_load(source) : left > 0 ? f_load_some(source, left) : f_set1(0);
      if (column_scales) x[v] = f_mul(x[v], f_load(column_scales + column + v * 16));
      finite = f_add(finite, f_sub(x[v], x[v]));
      largest = f_max(f_abs(x[v]), largest);
    }
    float amax = f_maximum(largest);
    bool vanishes = amax < 0x1p-100f;
    float inverse = vanishes ? 0 : 127 / amax;

    int64_t tile = column / TILE_COLUMNS * TILE_COLUMNS;
    int64_t rest = padded_columns - tile;
    int64_t tile_columns = rest < TILE_COLUMNS ? rest : TILE_COLUMNS;
    int64_t group = tile * tokens + first * tile_columns;
    int8_t *place = codes + group + (column - tile) * width + 4 * (token - first);
    int32_t sum = 0;
    for (int64_t v = 0; v < vectors; v++) {
      // |x| / amax * 127 rounds to 127 at most, so that nothing is left to clamp.
      i8x16 bytes = i_to_i8(i_from_f32(f_mul(x[v], f_set1(inverse))));
      sum += sum_bytes(bytes);
      int8_t packed[16];
      memcpy(packed, &bytes, 16);
      for (int chunk = 0; chunk < 4; chunk++) {
        memcpy(place + (4 * v + chunk) * 4 * width, packed + 4 * chunk, 4);
      }
    }
    int64_t block = group / block_size + (column - tile) / block_size * width + token - first;
    scales[block] = vanishes ? 0 : amax / 127;
    biases[block] = -128 * sum;
  }
  return f_sum(finite) == 0;
}
