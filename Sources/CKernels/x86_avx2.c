// AVX2 with FMA: sixteen lanes are two registers. What multiplies bytes is either AVX2's `vpmaddubsw`
// or, where another file includes this one and says so, a `vpdpbusd` of 256 bits.

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "CKernels.h"

#pragma STDC FP_CONTRACT OFF
#ifndef KERNELS
#define KERNELS ck_table_avx2
#define TARGET __attribute__((target("avx2,fma,f16c")))
#endif
#pragma clang attribute push(TARGET, apply_to = function)

#define INLINE static inline __attribute__((always_inline))

typedef struct {
  __m256 lo, hi;
} f32x16;
typedef struct {
  __m256i lo, hi;
} i32x16;
typedef __m128i i8x16;

#define EACH_F(expression_lo, expression_hi) \
  (f32x16) { expression_lo, expression_hi }
#define EACH_I(expression_lo, expression_hi) \
  (i32x16) { expression_lo, expression_hi }

INLINE f32x16 f_load(const float *p) {
  return EACH_F(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
INLINE void f_store(float *p, f32x16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
// Sixteen values of IEEE binary16, and their rounding to it, to nearest even.
INLINE f32x16 f_load_half(const uint16_t *p) {
  return EACH_F(_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)),
                _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 8))));
}
INLINE void f_store_half(uint16_t *p, f32x16 a) {
  _mm_storeu_si128((void *)p, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128((void *)(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
INLINE f32x16 f_set1(float a) { return EACH_F(_mm256_set1_ps(a), _mm256_set1_ps(a)); }
INLINE f32x16 f_add(f32x16 a, f32x16 b) {
  return EACH_F(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi));
}
INLINE f32x16 f_sub(f32x16 a, f32x16 b) {
  return EACH_F(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi));
}
INLINE f32x16 f_mul(f32x16 a, f32x16 b) {
  return EACH_F(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi));
}
INLINE f32x16 f_div(f32x16 a, f32x16 b) {
  return EACH_F(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi));
}
INLINE f32x16 f_fma(f32x16 a, f32x16 b, f32x16 c) {
  return EACH_F(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}
INLINE f32x16 f_abs(f32x16 a) {
  __m256 sign = _mm256_set1_ps(-0.0f);
  return EACH_F(_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi));
}
INLINE f32x16 f_round(f32x16 a) {
  return EACH_F(_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// The second operand where either is not a number.
INLINE f32x16 f_min(f32x16 a, f32x16 b) {
  return EACH_F(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi));
}
INLINE f32x16 f_max(f32x16 a, f32x16 b) {
  return EACH_F(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi));
}
// `a`, but `value` in lanes where `x < limit`.
INLINE f32x16 f_replace_below(f32x16 a, f32x16 x, f32x16 limit, f32x16 value) {
  return EACH_F(
      _mm256_blendv_ps(a.lo, value.lo, _mm256_cmp_ps(x.lo, limit.lo, _CMP_LT_OQ)),
      _mm256_blendv_ps(a.hi, value.hi, _mm256_cmp_ps(x.hi, limit.hi, _CMP_LT_OQ)));
}
INLINE f32x16 f_from_i32(i32x16 a) {
  return EACH_F(_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi));
}
INLINE i32x16 i_from_f32(f32x16 a) {
  return EACH_I(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
}
INLINE f32x16 f_from_bits(i32x16 a) {
  return EACH_F(_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi));
}
// The halves of sixteen lanes added, or the larger of each.
INLINE __m256 f_fold_add(f32x16 a) { return _mm256_add_ps(a.lo, a.hi); }
INLINE __m256 f_fold_max(f32x16 a) { return _mm256_max_ps(a.lo, a.hi); }

INLINE i32x16 i_load(const void *p) {
  return EACH_I(_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1));
}
INLINE void i_store(void *p, i32x16 a) {
  _mm256_storeu_si256(p, a.lo);
  _mm256_storeu_si256((__m256i *)p + 1, a.hi);
}
INLINE i32x16 i_zero(void) { return EACH_I(_mm256_setzero_si256(), _mm256_setzero_si256()); }
INLINE i32x16 i_set1(int32_t a) { return EACH_I(_mm256_set1_epi32(a), _mm256_set1_epi32(a)); }
INLINE i32x16 i_add(i32x16 a, i32x16 b) {
  return EACH_I(_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi));
}
INLINE i32x16 i_mul(i32x16 a, i32x16 b) {
  return EACH_I(_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi));
}
INLINE i32x16 i_abs(i32x16 a) { return EACH_I(_mm256_abs_epi32(a.lo), _mm256_abs_epi32(a.hi)); }
INLINE i32x16 i_and(i32x16 a, i32x16 b) {
  return EACH_I(_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi));
}
INLINE i32x16 i_xor(i32x16 a, i32x16 b) {
  return EACH_I(_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi));
}
INLINE i32x16 i_shift_left(i32x16 a, int bits) {
  return EACH_I(_mm256_slli_epi32(a.lo, bits), _mm256_slli_epi32(a.hi, bits));
}
INLINE i32x16 i_shift_right(i32x16 a, int bits) {
  return EACH_I(_mm256_srai_epi32(a.lo, bits), _mm256_srai_epi32(a.hi, bits));
}
INLINE i32x16 i_from_i8(const int8_t *p) {
  __m128i bytes = _mm_loadu_si128((const void *)p);
  return EACH_I(_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)));
}
// The same value, of which the compiler knows nothing.
INLINE i32x16 i_opaque(i32x16 a) {
  __asm__ volatile("" : "+x"(a.lo), "+x"(a.hi));
  return a;
}
// Sixteen integers as bytes; those outside of -128...127 are undefined.
INLINE i8x16 i_to_i8(i32x16 a) {
  __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xD8);
  return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

typedef __m256i table;

INLINE table table_of(const int8_t *codebook) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)codebook));
}
INLINE i32x16 unpack_low(table entries, i32x16 codes) {
  __m256i nibble = _mm256_set1_epi8(15);
  return EACH_I(_mm256_shuffle_epi8(entries, _mm256_and_si256(codes.lo, nibble)),
                _mm256_shuffle_epi8(entries, _mm256_and_si256(codes.hi, nibble)));
}
INLINE i32x16 unpack_high(table entries, i32x16 codes) {
  return unpack_low(
      entries, EACH_I(_mm256_srli_epi16(codes.lo, 4), _mm256_srli_epi16(codes.hi, 4)));
}

// Weights of sixteen rows and four columns as the multiplier takes them.
#ifdef DPBUSD

typedef i32x16 operand;

#define WEIGHT_BIAS 128
INLINE operand operand_of(i32x16 biased) { return biased; }
// The first factors are unsigned: weights, biased by 128.
INLINE i32x16 dot4(i32x16 sums, operand weights, i32x16 activations) {
  return EACH_I(DPBUSD(sums.lo, weights.lo, activations.lo),
                DPBUSD(sums.hi, weights.hi, activations.hi));
}
INLINE i32x16 dot4_positive(i32x16 sums, i32x16 codes, i32x16 values) {
  return dot4(sums, codes, values);
}
#define TILE_UNROLLING 8

#else

// `vpmaddubsw` wants one unsigned operand, so it gets the magnitudes of the weights and activations
// that carry the weights' signs; a magnitude is at most 128 and an activation at most 127, so its
// 16-bit sums of two do not saturate.
typedef struct {
  i32x16 values, magnitudes;
} operand;

#define WEIGHT_BIAS 0
INLINE operand operand_of(i32x16 values) {
  return (operand){values, EACH_I(_mm256_abs_epi8(values.lo), _mm256_abs_epi8(values.hi))};
}
INLINE __m256i dot4_half(__m256i sums, __m256i values, __m256i magnitudes, __m256i activations) {
  __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(activations, values));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE i32x16 dot4(i32x16 sums, operand weights, i32x16 activations) {
  return EACH_I(
      dot4_half(sums.lo, weights.values.lo, weights.magnitudes.lo, activations.lo),
      dot4_half(sums.hi, weights.values.hi, weights.magnitudes.hi, activations.hi));
}
// More steps of four columns in one piece make the compiler move registers to memory and back.
#define TILE_UNROLLING 1

// Four products of bytes in each lane, the first factors in 0...127.
INLINE __m256i dot4_positive_half(__m256i sums, __m256i codes, __m256i values) {
  __m256i pairs = _mm256_maddubs_epi16(codes, values);
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE i32x16 dot4_positive(i32x16 sums, i32x16 codes, i32x16 values) {
  return EACH_I(dot4_positive_half(sums.lo, codes.lo, values.lo),
                dot4_positive_half(sums.hi, codes.hi, values.hi));
}

#endif

// Register tile of products with int8 activations, two registers for sixteen rows:
//
//              t0       t1       t2       t3         8 sums; 2 registers of weights, 4 where their
//   panel   [ 8| 8]  [ 8| 8]  [ 8| 8]  [ 8| 8]       magnitudes are apart; 1 of activations, 2 more.
//
// The accumulators of a block, as many again, come from the first-level cache and go back there.
#define TILE_PANELS 1
#define TOKEN_GROUP 4
#define STREAM_TOKENS 4
#define STREAM_UNROLLING 4
#define FOR_EACH_GROUP_WIDTH(CASE) CASE(1) CASE(2) CASE(3) CASE(4)
#define FOR_EACH_STREAM_WIDTH FOR_EACH_GROUP_WIDTH
// Queries that attention takes together, and the sums that they share: 8 registers of 16.
#define QUERY_BLOCK 4
#define ATTENTION_SUMS 4
// Sums of a Mamba2 scan, of sixteen features and one token each, that are taken together.
#define SCAN_SUMS 2
// Chains that keep the multipliers busy.
#define INDEPENDENT_DOTS 5

#include "bodies/x86_lanes.h"
#include "bodies/functions.h"
#include "bodies/activations.h"
#include "bodies/multiply_f32.h"
#include "bodies/multiply_int8.h"
#include "bodies/cache.h"
#include "bodies/attention.h"
#include "bodies/state_space.h"
#include "bodies/ceilings.h"

const ck_kernels KERNELS = KERNEL_TABLE;

#pragma clang attribute pop
#endif
