// Products with int8 activations. The register tile:
//
//              group of tokens
//             t0   t1   t2 ...           One int32 sum of sixteen rows for each (panel, token). A
//   panel 0  [16] [16] [16]              step multiplies four columns: one load for each panel,
//   panel 1  [16] [16] [16]              one broadcast for each token.
//
// After each block the exact sums join the float32 accumulators. -0 as their beginning makes the
// first fma a plain multiply.
//
// Up to one group of tokens, a panel's codes are unpacked on their way from memory and used at
// once. With more, the codes of a column tile are unpacked once to the first-level cache, and every
// group runs over them; meanwhile the accumulators rest in `output`.

INLINE const char *code_lines(const ck_weights *w, int64_t panel, int64_t column, int bits) {
  return (const char *)w->codes + (panel * w->padded_columns + column) * 2 * bits;
}

// s(b) = b * |b| of sixteen block scales; exact in float32.
INLINE f32x16 squared_scales(const int8_t *scales) {
  f32x16 b = f_from_i32(i_from_i8(scales));
  return f_mul(b, f_abs(b));
}

INLINE i32x16 broadcast4(const int8_t *codes) {
  int32_t four;
  memcpy(&four, codes, 4);
  return i_set1(four);
}

// ---- One group of tokens: weights pass through registers once --------------------------------

// How far ahead of the line in use memory is asked for.
#define PREFETCH_BYTES 4096

INLINE void stream_panel(const ck_weights *w, const ck_activations *x, float *output,
                         int64_t output_stride, int64_t panel, const int bits,
                         const int block_size, const int width) {
  const char *lines = code_lines(w, panel, 0, bits);
  int64_t blocks = w->padded_columns / block_size;
  const int8_t *block_scales = w->block_scales + panel * blocks * 16;
  table entries = bits == 4 ? table_of(w->codebook) : (table){0};
  f32x16 sums[TOKEN_GROUP];
#pragma clang loop unroll(full)
  for (int g = 0; g < width; g++) sums[g] = f_set1(-0.0f);
  for (int64_t block = 0; block < blocks; block++) {
    // Two chains for each token: columns 0-3 and 4-7 of every eight.
    i32x16 low[TOKEN_GROUP], high[TOKEN_GROUP];
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) {
      low[g] = dot_start(x->biases[block * width + g]);
      high[g] = i_zero();
    }
    const int8_t *codes = x->codes + block * block_size * width;
#pragma clang loop unroll(full)
    for (int k = 0; k < block_size; k += 8) {
      operand w_low, w_high;
      if (bits == 4) {
        i32x16 line = i_load(lines);
        w_low = operand_of(unpack_low(entries, line));
        w_high = operand_of(unpack_high(entries, line));
      } else {
        w_low = operand_of(unpack_bytes(i_load(lines)));
        w_high = operand_of(unpack_bytes(i_load(lines + 64)));
        __builtin_prefetch(lines + PREFETCH_BYTES + 64);
      }
      __builtin_prefetch(lines + PREFETCH_BYTES);
      lines += 16 * bits;
#pragma clang loop unroll(full)
      for (int g = 0; g < width; g++) {
        low[g] = dot4(low[g], w_low, broadcast4(codes + (k * width + 4 * g)));
        high[g] = dot4(high[g], w_high, broadcast4(codes + ((k + 4) * width + 4 * g)));
      }
    }
    f32x16 scale = squared_scales(block_scales + block * 16);
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) {
      sums[g] = f_fma(f_from_i32(i_add(low[g], high[g])),
                      f_mul(scale, f_set1(x->scales[block * width + g])), sums[g]);
    }
  }
  f32x16 row_scale = f_load(w->row_scales + panel * 16);
#pragma clang loop unroll(full)
  for (int g = 0; g < width; g++) {
    f_store(output + g * output_stride + panel * 16, f_mul(sums[g], row_scale));
  }
}

// ---- More tokens: a column tile is unpacked to the first-level cache -------------------------

typedef struct {
  // [column / 4][panel][64 bytes], [block][panel][16 rows]
  int8_t weights[TILE_COLUMNS / 4 * TILE_PANELS * 64] __attribute__((aligned(64)));
  float scales[TILE_COLUMNS / 16 * TILE_PANELS * 16] __attribute__((aligned(64)));
} int8_tile;

// `ahead`: bytes to the codes that are needed next.
INLINE void unpack_tile(const ck_weights *w, int64_t panel, int64_t column, int64_t columns,
                        int64_t ahead, int8_tile *tile, const int place, const int bits,
                        const int block_size) {
  const char *lines = code_lines(w, panel, column, bits);
  table entries = bits == 4 ? table_of(w->codebook) : (table){0};
  for (int64_t k = 0; k < columns; k += 8) {
    i32x16 low, high;
    if (bits == 4) {
      i32x16 line = i_load(lines + k * 8);
      low = unpack_low(entries, line);
      high = unpack_high(entries, line);
    } else {
      low = unpack_bytes(i_load(lines + k * 16));
      high = unpack_bytes(i_load(lines + k * 16 + 64));
      __builtin_prefetch(lines + k * 16 + 64 + ahead, 0, 2);
    }
    __builtin_prefetch(lines + k * 2 * bits + ahead, 0, 2);
    i_store(tile->weights + (k / 4 * TILE_PANELS + place) * 64, low);
    i_store(tile->weights + ((k / 4 + 1) * TILE_PANELS + place) * 64, high);
  }
  const int8_t *scales = w->block_scales + (panel * w->padded_columns + column) / block_size * 16;
  for (int64_t block = 0; block < columns / block_size; block++) {
    f_store(tile->scales + (block * TILE_PANELS + place) * 16, squared_scales(scales + block * 16));
  }
}

// Runs a group of tokens over a tile; `outputs` point to the rows of the tile's panels of the first
// token. `row_scales` are null but for the last tile.
INLINE void multiply_tile(const int8_tile *tile, int64_t blocks, const int8_t *codes,
                          const float *scales, const int32_t *biases, bool begins,
                          const float *const *row_scales, float *const *outputs,
                          int64_t output_stride, const int block_size, const int width) {
  f32x16 sums[TILE_PANELS][TOKEN_GROUP];
#pragma clang loop unroll(full)
  for (int p = 0; p < TILE_PANELS; p++) {
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) {
      sums[p][g] = begins ? f_set1(-0.0f) : f_load(outputs[p] + g * output_stride);
    }
  }
  for (int64_t block = 0; block < blocks; block++) {
    i32x16 dots[TILE_PANELS][TOKEN_GROUP];
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) {
      i32x16 start = dot_start(biases[block * width + g]);
#pragma clang loop unroll(full)
      for (int p = 0; p < TILE_PANELS; p++) dots[p][g] = start;
    }
    const int8_t *lines = tile->weights + block * block_size / 4 * TILE_PANELS * 64;
    const int8_t *block_codes = codes + block * block_size * width;
#pragma clang loop unroll(full)
    for (int k = 0; k < block_size / 4; k++) {
      operand weights[TILE_PANELS];
#pragma clang loop unroll(full)
      for (int p = 0; p < TILE_PANELS; p++) {
        weights[p] = operand_of(i_load(lines + (k * TILE_PANELS + p) * 64));
      }
#pragma clang loop unroll(full)
      for (int g = 0; g < width; g++) {
        i32x16 activations = broadcast4(block_codes + (k * width + g) * 4);
#pragma clang loop unroll(full)
        for (int p = 0; p < TILE_PANELS; p++) {
          dots[p][g] = dot4(dots[p][g], weights[p], activations);
        }
      }
    }
#pragma clang loop unroll(full)
    for (int p = 0; p < TILE_PANELS; p++) {
      f32x16 scale = f_load(tile->scales + (block * TILE_PANELS + p) * 16);
#pragma clang loop unroll(full)
      for (int g = 0; g < width; g++) {
        sums[p][g] = f_fma(f_from_i32(dots[p][g]),
                           f_mul(scale, f_set1(scales[block * width + g])), sums[p][g]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int p = 0; p < TILE_PANELS; p++) {
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) {
      f32x16 result = row_scales ? f_mul(sums[p][g], f_load(row_scales[p])) : sums[p][g];
      f_store(outputs[p] + g * output_stride, result);
    }
  }
}

#define MULTIPLY_TILE_CASE(w) \
  case w: \
    multiply_tile(&tile, columns / block_size, codes, scales, biases, column == 0, \
                  ends ? row_scales : 0, outputs, output_stride, block_size, w); \
    break;

INLINE void multiply_panels(const ck_weights *w, const ck_activations *x, float *output,
                            int64_t output_stride, int64_t first, int64_t last, int64_t ahead,
                            const int bits, const int block_size) {
  int8_tile tile;
  for (int64_t column = 0; column < w->padded_columns; column += TILE_COLUMNS) {
    int64_t left = w->padded_columns - column;
    int64_t columns = left < TILE_COLUMNS ? left : TILE_COLUMNS;
    bool ends = columns == left;
    for (int64_t panel = first; panel < last; panel += TILE_PANELS) {
      const float *row_scales[TILE_PANELS];
      int64_t panels[TILE_PANELS];
      for (int p = 0; p < TILE_PANELS; p++) {
        // Past the end the last panel is computed again; both write the same values.
        panels[p] = panel + p < last ? panel + p : last - 1;
        row_scales[p] = w->row_scales + panels[p] * 16;
        unpack_tile(w, panels[p], column, columns, ahead, &tile, p, bits, block_size);
      }
      for (int64_t token = 0; token < x->tokens; token += TOKEN_GROUP) {
        int64_t width = x->tokens - token < TOKEN_GROUP ? x->tokens - token : TOKEN_GROUP;
        int64_t place = column * x->tokens + token * columns;
        const int8_t *codes = x->codes + place;
        const float *scales = x->scales + place / block_size;
        const int32_t *biases = x->biases + place / block_size;
        float *outputs[TILE_PANELS];
        for (int p = 0; p < TILE_PANELS; p++) {
          outputs[p] = output + token * output_stride + panels[p] * 16;
          // The next group's accumulators lie a row apart each, too far for the hardware to guess.
          for (int g = 0; g < TOKEN_GROUP; g++) {
            __builtin_prefetch(outputs[p] + (TOKEN_GROUP + g) * output_stride, 1);
          }
        }
        switch (width) { FOR_EACH_WIDTH(MULTIPLY_TILE_CASE) }
      }
    }
  }
}

// ---- Choice ----------------------------------------------------------------------------------

#define STREAM_CASE(n) \
  case n: \
    for (int64_t panel = first; panel < last; panel++) { \
      stream_panel(w, x, output, output_stride, panel, bits, block_size, n); \
    } \
    return;

// Up to so many tokens weights are read in the order in which they lie in memory; with more, whose
// activations would not stay in the second-level cache, all panels take their turn with one tile of
// columns.
#define PANEL_MAJOR_TOKENS 64

#define MULTIPLY_INT8(name, element_bits, columns) \
  static void name(const ck_weights *w, const ck_activations *x, float *output, \
                   int64_t output_stride, int64_t first, int64_t last) { \
    const int bits = element_bits, block_size = columns; \
    switch (x->tokens) { FOR_EACH_WIDTH(STREAM_CASE) } \
    const int64_t tile_bytes = TILE_COLUMNS * 2 * bits; \
    const int64_t panel_bytes = w->padded_columns * 2 * bits; \
    if (x->tokens > PANEL_MAJOR_TOKENS) { \
      multiply_panels(w, x, output, output_stride, first, last, TILE_PANELS * panel_bytes, bits, \
                      block_size); \
      return; \
    } \
    for (int64_t panel = first; panel < last; panel += TILE_PANELS) { \
      int64_t end = panel + TILE_PANELS < last ? panel + TILE_PANELS : last; \
      multiply_panels(w, x, output, output_stride, panel, end, tile_bytes, bits, block_size); \
    } \
  }

MULTIPLY_INT8(multiply_q4b16, 4, 16)
MULTIPLY_INT8(multiply_q4b32, 4, 32)
MULTIPLY_INT8(multiply_q8b16, 8, 16)
MULTIPLY_INT8(multiply_q8b32, 8, 32)

static void multiply_int8(const ck_weights *w, const ck_activations *x, float *output,
                          int64_t output_stride, int64_t first, int64_t last) {
  if (w->element_bits == 4) {
    (w->block_size == 16 ? multiply_q4b16 : multiply_q4b32)(w, x, output, output_stride, first,
                                                            last);
  } else {
    (w->block_size == 16 ? multiply_q8b16 : multiply_q8b32)(w, x, output, output_stride, first,
                                                            last);
  }
}
