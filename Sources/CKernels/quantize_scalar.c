// The quantizers in vectors of whatever the baseline has, without any permutation.
#include "CQuantize.h"
#include "quantize_lanes.h"

#pragma STDC FP_CONTRACT OFF

struct codebook { float entries[16], borders[15]; };

INLINE struct codebook make_codebook(const float *entries) {
  struct codebook codebook;
  for (int c = 0; c < 16; c++) codebook.entries[c] = entries[c];
  for (int c = 0; c < 15; c++) codebook.borders[c] = codebook_border(entries, c);
  return codebook;
}

INLINE lanes_int codebook_index(const struct codebook *codebook, lanes v) {
  lanes_int index = 0;
  for (int c = 0; c < 15; c++) index -= v > codebook->borders[c];
  return index;
}

INLINE lanes codebook_value(const struct codebook *codebook, lanes_int index) {
  lanes value = codebook->entries[0];
  for (int c = 1; c < 16; c++) value = index >= c ? (lanes)(codebook->entries[c]) : value;
  return value;
}

#define QUANTIZE(name) quantize_scalar_##name
#include "quantize_body.inc"
