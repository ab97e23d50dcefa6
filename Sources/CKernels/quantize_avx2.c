// The quantizers for AVX2: sixteen lanes in two registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include "CQuantize.h"
#include "quantize_lanes.h"

#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)

// Borders in the order of a binary search: the middle one, the middles of both halves, of the
// quarters, of the eighths.
struct codebook { __m256 half, low_quarter, high_quarter, eighths, sixteenths, low, high; };

INLINE struct codebook make_codebook(const float *entries) {
  float b[15];
  for (int c = 0; c < 15; c++) b[c] = codebook_border(entries, c);
  struct codebook codebook = {
      _mm256_set1_ps(b[7]),
      _mm256_set1_ps(b[3]),
      _mm256_set1_ps(b[11]),
      _mm256_setr_ps(b[1], b[5], b[9], b[13], b[1], b[5], b[9], b[13]),
      _mm256_setr_ps(b[0], b[2], b[4], b[6], b[8], b[10], b[12], b[14]),
      _mm256_loadu_ps(entries),
      _mm256_loadu_ps(entries + 8),
  };
  return codebook;
}

INLINE __m256i half_index(const struct codebook *codebook, __m256 v) {
  __m256 above = _mm256_cmp_ps(v, codebook->half, _CMP_GT_OQ);
  __m256i index = _mm256_castps_si256(above);  // -1 or 0: minus the index, so far
  __m256 border = _mm256_blendv_ps(codebook->low_quarter, codebook->high_quarter, above);
  above = _mm256_cmp_ps(v, border, _CMP_GT_OQ);
  index = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_add_epi32(index, index));
  index = _mm256_sub_epi32(index, _mm256_castps_si256(above));
  border = _mm256_permutevar_ps(codebook->eighths, index);
  above = _mm256_cmp_ps(v, border, _CMP_GT_OQ);
  index = _mm256_sub_epi32(_mm256_add_epi32(index, index), _mm256_castps_si256(above));
  border = _mm256_permutevar8x32_ps(codebook->sixteenths, index);
  above = _mm256_cmp_ps(v, border, _CMP_GT_OQ);
  return _mm256_sub_epi32(_mm256_add_epi32(index, index), _mm256_castps_si256(above));
}

INLINE __m256 half_value(const struct codebook *codebook, __m256i index) {
  __m256 high = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));  // sign bit: index >= 8
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(codebook->low, index),
                          _mm256_permutevar8x32_ps(codebook->high, index), high);
}

union halves {
  lanes value;
  lanes_int index;
  __m256 values[2];
  __m256i indices[2];
};

INLINE lanes_int codebook_index(const struct codebook *codebook, lanes v) {
  union halves in = {.value = v}, out;
  out.indices[0] = half_index(codebook, in.values[0]);
  out.indices[1] = half_index(codebook, in.values[1]);
  return out.index;
}

INLINE lanes codebook_value(const struct codebook *codebook, lanes_int index) {
  union halves in = {.index = index}, out;
  out.values[0] = half_value(codebook, in.indices[0]);
  out.values[1] = half_value(codebook, in.indices[1]);
  return out.value;
}

#define QUANTIZE(name) quantize_avx2_##name
#include "quantize_body.inc"

#pragma clang attribute pop
#endif
