// Inner loops of the quantizers, for one panel of sixteen rows at a time.
//
// Rows are lanes: whatever is computed for one row never meets another one, sums run over columns
// in order, and no operation is fused, so every instruction set returns the same bits.
#ifndef CQUANTIZE_H
#define CQUANTIZE_H

#include <stdint.h>

// A panel in float32, column by column: `values[16 * k + r]` is column k of row r. The target of
// quantization is x = values * inverse_column_scales * normalizers, which has magnitudes near 1.
struct quantize_panel {
  const float *values;                 // padded_columns * 16; zeros in padding
  const float *column_scales;          // padded_columns, or NULL for 1
  const float *inverse_column_scales;  // padded_columns, or NULL for 1
  const float *weights;                // padded_columns: factors of squared errors, 0 in padding
  const float *normalizers;            // 16 powers of two
  int32_t columns, padded_columns;
  int32_t block_size;                  // 16 or 32; padded_columns is a multiple of 32
};

enum { QUANTIZE_SUMS = 7 * 16 };  // doubles, as below

// Where the codes of a panel go, and what they do to it.
struct quantize_output {
  uint8_t *codes;       // lines of layout panel16
  int8_t *block_scales; // 16 for each block
  // Sums over the columns of each row, 16 each, of (w - v)^2, w^2, w v, v^2 for weights w and
  // their decoded values v, the largest |w - v|, and of i (w - v)^2 and i w^2 with the importance
  // i of the columns: their factors without column scales.
  double *sums;         // QUANTIZE_SUMS
};

struct quantize_kernels {
  // Interleaves 16 rows of `columns` values, `stride` apart, into `values` and pads; gives for each row the bits of
  // the largest |value * inverse_column_scale|, 0x7F800000 or more where one is not finite.
  void (*load)(const float *rows, int64_t stride, int32_t columns, int32_t padded_columns,
               const float *inverse_column_scales, float *values, uint32_t *largest);
  // The best signed scale in units of x for each block and row, free of any grid, and the largest
  // magnitude of each row's scales. `codebook`: 16 ascending values.
  void (*q4_scales)(const struct quantize_panel *panel, const float *codebook, float *scales,
                    float *largest);
  // Sums for refitting the codebook: for the weights that entry c is nearest to, in units of the
  // scale of their block, numerators[c] += weight * x / scale and denominators[c] += weight.
  void (*q4_fit)(const struct quantize_panel *panel, const float *codebook, const float *scales,
                 double *numerators, double *denominators);
  // Chooses block scales on the grid units[r] * b * |b| near `scales`, then codes. `units` are row
  // scales times normalizers; rows whose unit is 0 get zeros.
  void (*q4_encode)(const struct quantize_panel *panel, const float *codebook, const float *scales,
                    const float *units, const float *row_scales, struct quantize_output output);
  // Chooses block scales on the grid units[r] * b * b, then codes.
  void (*q8_encode)(const struct quantize_panel *panel, const float *units,
                    const float *row_scales, struct quantize_output output);
  // Packs the values as bf16, rounded to nearest even, and sums as above with an importance of 1.
  void (*bf16_encode)(const float *values, int32_t padded_columns, uint8_t *elements,
                      double *sums);
};

enum { QUANTIZE_SCALAR = 0, QUANTIZE_AVX2 = 1, QUANTIZE_AVX512 = 2 };

// The kernels for an instruction set, or the best below it that the machine has; AVX512 needs F,
// BW, DQ and VL.
const struct quantize_kernels *quantize_kernels_for(int32_t instruction_set);

#endif
