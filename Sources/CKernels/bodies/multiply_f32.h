// Products with float32 activations: columns of sixteen rows, as float32, times a group of tokens.
// Where weights are stored in another form, a tile of columns is dequantized first.

// A tile of `columns` columns from `column` on of panel `panel`.
INLINE void dequantize_bf16(const ck_weights *w, int64_t panel, int64_t column, int64_t columns,
                            float *tile) {
  const char *lines = (const char *)w->codes + (panel * w->padded_columns + column) * 32;
  for (int64_t k = 0; k < columns; k += 2) {
    i32x16 pair = i_load(lines + k * 32);
    f_store(tile + k * 16, f_from_bits(i_shift_left(pair, 16)));
    f_store(tile + k * 16 + 16, f_from_bits(i_and(pair, i_set1((int32_t)0xFFFF0000))));
  }
}

// Four columns of unpacked codes, scaled.
INLINE void dequantize_codes(i32x16 codes, i32x16 block_scale, f32x16 row_scale,
                             const float *column_scales, float *tile) {
#pragma clang loop unroll(full)
  for (int j = 0; j < 4; j++) {
    i32x16 value = i_shift_right(i_shift_left(codes, 24 - 8 * j), 24);
    f32x16 scaled = f_mul(f_from_i32(i_mul(value, block_scale)), row_scale);
    if (column_scales) scaled = f_mul(scaled, f_set1(column_scales[j]));
    f_store(tile + j * 16, scaled);
  }
}

INLINE void dequantize_blocks(const ck_weights *w, int64_t panel, int64_t column, int64_t columns,
                              float *tile, const int bits) {
  const char *lines = (const char *)w->codes + (panel * w->padded_columns + column) * 2 * bits;
  const int8_t *scales =
      w->block_scales + (panel * w->padded_columns + column) / w->block_size * 16;
  f32x16 row_scale = f_load(w->row_scales + panel * 16);
  table entries = bits == 4 ? table_of(w->codebook) : (table){0};
  for (int64_t k = 0; k < columns; k += 8) {
    i32x16 scale = i_from_i8(scales + k / w->block_size * 16);
    scale = i_mul(scale, i_abs(scale));
    i32x16 low, high;
    if (bits == 4) {
      i32x16 codes = i_load(lines + k * 8);
      low = unpack_low(entries, codes);
      high = unpack_high(entries, codes);
    } else {
      low = i_load(lines + k * 16);
      high = i_load(lines + k * 16 + 64);
    }
    const float *factors = w->column_scales ? w->column_scales + column + k : 0;
    dequantize_codes(low, scale, row_scale, factors, tile + k * 16);
    dequantize_codes(high, scale, row_scale, factors ? factors + 4 : 0, tile + k * 16 + 64);
  }
}

// Continues (or begins) the fma chains of a group of tokens over a tile.
INLINE void multiply_f32_group(const float *tile, int64_t columns, const float *values,
                               bool begins, float *output, int64_t output_stride,
                               const int width) {
  f32x16 sums[STREAM_TOKENS];
#pragma clang loop unroll(full)
  for (int g = 0; g < width; g++) {
    sums[g] = begins ? f_set1(0) : f_load(output + g * output_stride);
  }
  for (int64_t k = 0; k < columns; k++) {
    f32x16 w = f_load(tile + k * 16);
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) sums[g] = f_fma(w, f_set1(values[k * width + g]), sums[g]);
  }
#pragma clang loop unroll(full)
  for (int g = 0; g < width; g++) f_store(output + g * output_stride, sums[g]);
}

#define MULTIPLY_F32_CASE(w) \
  case w: \
    multiply_f32_group(tile, columns, values, begins, out, output_stride, w); \
    break;

static void multiply_f32(const ck_weights *w, const ck_activations *x, float *output,
                         int64_t output_stride, int64_t first, int64_t last) {
  float scratch[TILE_COLUMNS * 16] __attribute__((aligned(64)));
  for (int64_t panel = first; panel < last; panel++) {
    for (int64_t column = 0; column < w->padded_columns; column += TILE_COLUMNS) {
      int64_t left = w->padded_columns - column;
      int64_t columns = left < TILE_COLUMNS ? left : TILE_COLUMNS;
      const float *tile = scratch;
      switch (w->element_bits) {
        case 4: dequantize_blocks(w, panel, column, columns, scratch, 4); break;
        case 8: dequantize_blocks(w, panel, column, columns, scratch, 8); break;
        case 16: dequantize_bf16(w, panel, column, columns, scratch); break;
        default: tile = (const float *)w->codes + (panel * w->padded_columns + column) * 16;
      }
      bool begins = column == 0;
      int64_t group = group_of(x->tokens);
      for (int64_t token = 0; token < x->tokens; token += group) {
        int64_t width = x->tokens - token < group ? x->tokens - token : group;
        const float *values = x->values + column * x->tokens + token * columns;
        float *out = output + token * output_stride + panel * 16;
        switch (width) { FOR_EACH_STREAM_WIDTH(MULTIPLY_F32_CASE) }
      }
    }
  }
}
