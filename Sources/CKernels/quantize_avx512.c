// The quantizers for AVX-512: sixteen lanes in one register, a codebook in another.
#if defined(__x86_64__)
#include <immintrin.h>

#include "CQuantize.h"
#include "quantize_lanes.h"

#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)

// Borders for a binary search: entry i of each table is the border to compare with when the
// search has come to index i.
struct codebook { __m512 entries, half, quarters, eighths, sixteenths; };

INLINE struct codebook make_codebook(const float *entries) {
  float b[16];
  for (int c = 0; c < 15; c++) b[c] = codebook_border(entries, c);
  b[15] = 0;  // no search comes to it
  __m512 borders = _mm512_loadu_ps(b);
  __m512i own = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  struct codebook codebook = {
      _mm512_loadu_ps(entries),
      _mm512_set1_ps(b[7]),
      _mm512_permutexvar_ps(_mm512_add_epi32(own, _mm512_set1_epi32(3)), borders),
      _mm512_permutexvar_ps(_mm512_add_epi32(own, _mm512_set1_epi32(1)), borders),
      borders,
  };
  return codebook;
}

INLINE __m512i advance(__m512i index, __m512 v, __m512 border, int step) {
  __mmask16 above = _mm512_cmp_ps_mask(v, border, _CMP_GT_OQ);
  return _mm512_mask_add_epi32(index, above, index, _mm512_set1_epi32(step));
}

INLINE lanes_int codebook_index(const struct codebook *codebook, lanes value) {
  __m512 v = (__m512)value;
  __m512i index = advance(_mm512_setzero_si512(), v, codebook->half, 8);
  index = advance(index, v, _mm512_permutexvar_ps(index, codebook->quarters), 4);
  index = advance(index, v, _mm512_permutexvar_ps(index, codebook->eighths), 2);
  return (lanes_int)advance(index, v, _mm512_permutexvar_ps(index, codebook->sixteenths), 1);
}

INLINE lanes codebook_value(const struct codebook *codebook, lanes_int index) {
  return (lanes)_mm512_permutexvar_ps((__m512i)index, codebook->entries);
}

#define QUANTIZE(name) quantize_avx512_##name
#include "quantize_body.inc"

#pragma clang attribute pop
#endif
