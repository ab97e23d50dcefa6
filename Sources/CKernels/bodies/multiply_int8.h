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
// A few tokens are one group: a panel's codes are unpacked on their way from memory and used at
// once. With more, the codes of a column tile are unpacked once to the first-level cache, and every
// group runs over them; meanwhile the accumulators of all groups rest in `totals`.
//
// Where the multiplier wants one unsigned operand, weights get WEIGHT_BIAS (128) added, and a block's
// sums begin with what that adds to them, taken off: 128 times the sum of a token's activations, the
// same for all rows.

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

// Weights of one byte each. A bias of 128 turns the highest bit.
INLINE operand operand_of_bytes(const void *line) {
  return operand_of(i_xor(i_load(line), i_set1((int32_t)(WEIGHT_BIAS * 0x01010101u))));
}

// Biased weights of 4-bit codes.
INLINE table biased_table_of(const int8_t *codebook) {
  int8_t biased[16];
  for (int i = 0; i < 16; i++) biased[i] = codebook[i] ^ (int8_t)WEIGHT_BIAS;
  return table_of(biased);
}

// The weights of eight columns.
INLINE void load_operands(const char *lines, table entries, operand *low, operand *high,
                          const int bits) {
  if (bits == 4) {
    i32x16 line = i_load(lines);
    *low = operand_of(unpack_low(entries, line));
    *high = operand_of(unpack_high(entries, line));
  } else {
    *low = operand_of_bytes(lines);
    *high = operand_of_bytes(lines + 64);
  }
}

// What the sum of a block begins with.
INLINE i32x16 start_of(const int32_t *start) { return WEIGHT_BIAS ? i_set1(*start) : i_zero(); }

// ---- One group of tokens: weights pass through registers once --------------------------------

// How far ahead of the line in use memory is asked for: with half of that a core of the Zen 4 class that
// has a link to memory for itself reads a twelfth less.
#define PREFETCH_BYTES 8192

INLINE void stream_panel(const ck_weights *w, const ck_activations *x, float *output,
                         int64_t output_stride, int64_t panel, const int bits,
                         const int block_size, const int width) {
  const char *lines = code_lines(w, panel, 0, bits);
  int64_t blocks = w->padded_columns / block_size;
  const int8_t *block_scales = w->block_scales + panel * blocks * 16;
  table entries = bits == 4 ? biased_table_of(w->codebook) : (table){0};
  // Few tokens get two chains each, for columns 0-3 and 4-7 of every eight.
  const int second = width * 2 <= STREAM_TOKENS ? 1 : 0;
  f32x16 sums[STREAM_TOKENS];
#pragma clang loop unroll(full)
  for (int g = 0; g < width; g++) sums[g] = f_set1(-0.0f);
  for (int64_t block = 0; block < blocks; block++) {
    i32x16 dots[STREAM_TOKENS][2];
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) {
      dots[g][0] = start_of(x->starts + block * width + g);
      dots[g][1] = i_zero();
    }
    const int8_t *codes = x->codes + block * block_size * width;
#pragma clang loop unroll_count(STREAM_UNROLLING)
    for (int k = 0; k < block_size; k += 8) {
      operand low, high;
      load_operands(lines, entries, &low, &high, bits);
      // Used once: what else is in the caches had better stay.
      for (int i = 0; i < 16 * bits; i += 64) __builtin_prefetch(lines + PREFETCH_BYTES + i, 0, 0);
      lines += 16 * bits;
#pragma clang loop unroll(full)
      for (int g = 0; g < width; g++) {
        dots[g][0] = dot4(dots[g][0], low, broadcast4(codes + (k * width + 4 * g)));
      }
#pragma clang loop unroll(full)
      for (int g = 0; g < width; g++) {
        dots[g][second] =
            dot4(dots[g][second], high, broadcast4(codes + ((k + 4) * width + 4 * g)));
      }
    }
    f32x16 scale = squared_scales(block_scales + block * 16);
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) {
      i32x16 dot = second ? i_add(dots[g][0], dots[g][1]) : dots[g][0];
      sums[g] = f_fma(f_from_i32(dot), f_mul(scale, f_set1(x->scales[block * width + g])), sums[g]);
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
  // [column / 4][panel]
  operand weights[TILE_COLUMNS / 4 * TILE_PANELS];
  // [block][panel][16 rows]
  float scales[TILE_COLUMNS / 16 * TILE_PANELS * 16] __attribute__((aligned(64)));
} int8_tile;

INLINE const int8_t *scale_lines(const ck_weights *w, int64_t panel, int64_t column,
                                 int block_size) {
  return w->block_scales + (panel * w->padded_columns + column) / block_size * 16;
}

INLINE void unpack_tile(const ck_weights *w, int64_t panel, int64_t column, int64_t columns,
                        int8_tile *tile, const int place, const int bits,
                        const int block_size) {
  const char *lines = code_lines(w, panel, column, bits);
  const int8_t *scales = scale_lines(w, panel, column, block_size);
  table entries = bits == 4 ? biased_table_of(w->codebook) : (table){0};
  for (int64_t block = 0; block < columns / block_size; block++) {
#pragma clang loop unroll(full)
    for (int64_t k = 0; k < block_size; k += 8) {
      operand *weights = tile->weights + (block * block_size + k) / 4 * TILE_PANELS + place;
      load_operands(lines, entries, weights, weights + TILE_PANELS, bits);
      lines += 16 * bits;
    }
    f_store(tile->scales + (block * TILE_PANELS + place) * 16, squared_scales(scales + block * 16));
  }
}

// Bytes to ask for with each of some groups, so that the last lines come with the last group.
INLINE int64_t prefetch_step(int64_t bytes, int64_t groups) {
  return (bytes / 64 + groups - 1) / groups * 64;
}

// Asks for a part of what is unpacked next: all at once would be more than the processor has buffers
// for. Without a division, and branches that repeat: both would hold up the next group.
INLINE void prefetch_part(const void *memory, int64_t bytes, int64_t step, int64_t groups_left) {
  int64_t first = bytes - groups_left * step;
  for (int64_t i = first < 0 ? 0 : first; i < first + step; i += 64) {
    __builtin_prefetch((const char *)memory + i);
  }
}

// Runs a group of tokens over a tile. `totals` holds [panel][token] accumulators. In the last tile
// of a row `outputs` point to the places of the first token's rows, otherwise they are null.
INLINE void multiply_tile(const int8_tile *tile, int64_t blocks, const int8_t *codes,
                          const float *scales, const int32_t *starts, bool begins, float *totals,
                          const float *const *row_scales, float *const *outputs,
                          int64_t output_stride, const int block_size, const int width) {
  f32x16 sums[TILE_PANELS][TOKEN_GROUP];
#pragma clang loop unroll(full)
  for (int p = 0; p < TILE_PANELS; p++) {
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) {
      sums[p][g] = begins ? f_set1(-0.0f) : f_load(totals + (p * TOKEN_GROUP + g) * 16);
    }
  }
  for (int64_t block = 0; block < blocks; block++) {
    i32x16 dots[TILE_PANELS][TOKEN_GROUP];
#pragma clang loop unroll(full)
    for (int g = 0; g < width; g++) {
      i32x16 start = start_of(starts + block * width + g);
#pragma clang loop unroll(full)
      for (int p = 0; p < TILE_PANELS; p++) dots[p][g] = start;
    }
    const operand *lines = tile->weights + block * block_size / 4 * TILE_PANELS;
    const int8_t *block_codes = codes + block * block_size * width;
#pragma clang loop unroll_count(TILE_UNROLLING)
    for (int k = 0; k < block_size / 4; k++) {
      operand weights[TILE_PANELS];
#pragma clang loop unroll(full)
      for (int p = 0; p < TILE_PANELS; p++) weights[p] = lines[k * TILE_PANELS + p];
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
      if (outputs) {
        f_store(outputs[p] + g * output_stride, f_mul(sums[p][g], f_load(row_scales[p])));
      } else {
        f_store(totals + (p * TOKEN_GROUP + g) * 16, sums[p][g]);
      }
    }
  }
}

// Panels that take their turn with one tile of columns of all tokens, and tokens that do so.
#define TURN_PANELS 16
#define TURN_GROUPS ((256 + TOKEN_GROUP - 1) / TOKEN_GROUP)

#define MULTIPLY_TILE_CASE(w) \
  case w: \
    multiply_tile(&tile, columns / block_size, codes, scales, starts, column == 0, accumulators, \
                  row_scales, ends ? outputs : 0, output_stride, block_size, w); \
    break;

// Panels `first ..< last`, at most TURN_PANELS, times tokens `begin ..< end`, at most TURN_GROUPS.
INLINE void multiply_panels(const ck_weights *w, const ck_activations *x, float *output,
                            int64_t output_stride, int64_t first, int64_t last, int64_t begin,
                            int64_t end, const int bits, const int block_size) {
  int8_tile tile;
  int64_t group = group_of(x->tokens), groups = (end - begin + group - 1) / group;
  const int64_t code_bytes = TILE_COLUMNS * 2 * bits, scale_bytes = TILE_COLUMNS / block_size * 16;
  int64_t code_step = prefetch_step(code_bytes, groups);
  int64_t scale_step = prefetch_step(scale_bytes, groups);
  float totals[TURN_PANELS * TURN_GROUPS * TOKEN_GROUP * 16] __attribute__((aligned(64)));
  for (int64_t column = 0; column < w->padded_columns; column += TILE_COLUMNS) {
    int64_t left = w->padded_columns - column;
    int64_t columns = left < TILE_COLUMNS ? left : TILE_COLUMNS;
    bool ends = columns == left;
    float *accumulators = totals;
    for (int64_t panel = first; panel < last; panel += TILE_PANELS) {
      const float *row_scales[TILE_PANELS];
      int64_t panels[TILE_PANELS];
      for (int p = 0; p < TILE_PANELS; p++) {
        // Past the end the last panel is computed again; both write the same values.
        panels[p] = panel + p < last ? panel + p : last - 1;
        row_scales[p] = w->row_scales + panels[p] * 16;
        unpack_tile(w, panels[p], column, columns, &tile, p, bits, block_size);
      }
      // The panels after these, or the first ones' next columns.
      bool returns = panel + TILE_PANELS >= last;
      int64_t next_panel = returns ? first : panel + TILE_PANELS;
      int64_t next_column = returns ? column + columns : column;
      const void *next_codes[TILE_PANELS], *next_scales[TILE_PANELS];
      for (int p = 0; p < TILE_PANELS; p++) {
        next_codes[p] = code_lines(w, next_panel + p, next_column, bits);
        next_scales[p] = scale_lines(w, next_panel + p, next_column, block_size);
      }
      int64_t groups_left = groups;
      for (int64_t token = begin; token < end; token += group) {
        int64_t width = end - token < group ? end - token : group;
        int64_t place = column * x->tokens + token * columns;
        const int8_t *codes = x->codes + place;
        const float *scales = x->scales + place / block_size;
        const int32_t *starts = x->starts + place / block_size;
        float *outputs[TILE_PANELS];
        for (int p = 0; p < TILE_PANELS; p++) {
          outputs[p] = output + token * output_stride + panels[p] * 16;
        }
        for (int p = 0; p < TILE_PANELS; p++) {
          prefetch_part(next_codes[p], code_bytes, code_step, groups_left);
          prefetch_part(next_scales[p], scale_bytes, scale_step, groups_left);
        }
        groups_left -= 1;
        switch (width) { FOR_EACH_GROUP_WIDTH(MULTIPLY_TILE_CASE) }
        accumulators += TILE_PANELS * TOKEN_GROUP * 16;
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
// activations would not stay in the second-level cache, several panels take their turn.
#define PANEL_MAJOR_TOKENS 64

#define MULTIPLY_INT8(name, element_bits, columns) \
  static void name(const ck_weights *w, const ck_activations *x, float *output, \
                   int64_t output_stride, int64_t first, int64_t last) { \
    const int bits = element_bits, block_size = columns; \
    switch (x->tokens) { FOR_EACH_STREAM_WIDTH(STREAM_CASE) } \
    int64_t turn = x->tokens > PANEL_MAJOR_TOKENS ? TURN_PANELS : TILE_PANELS; \
    int64_t chunk = TURN_GROUPS * group_of(x->tokens); \
    for (int64_t token = 0; token < x->tokens; token += chunk) { \
      int64_t end = token + chunk < x->tokens ? token + chunk : x->tokens; \
      for (int64_t panel = first; panel < last; panel += turn) { \
        multiply_panels(w, x, output, output_stride, panel, \
                        panel + turn < last ? panel + turn : last, token, end, bits, block_size); \
      } \
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
