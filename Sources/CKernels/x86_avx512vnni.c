// AVX-512 with VNNI: sixteen lanes are one register, and `vpdpbusd` multiplies four pairs of bytes
// per lane. It wants one unsigned operand: weights, biased by 128. So activations, one value for all
// lanes, are the operand that an instruction can broadcast from memory by itself.

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "CKernels.h"

#pragma STDC FP_CONTRACT OFF
#ifndef KERNELS
#define KERNELS ck_table_avx512vnni
#define TARGET __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#endif
#pragma clang attribute push(TARGET, apply_to = function)

#define INLINE static inline __attribute__((always_inline))

typedef __m512 f32x16;
typedef __m512i i32x16;
typedef __m128i i8x16;

INLINE f32x16 f_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void f_store(float *p, f32x16 a) { _mm512_storeu_ps(p, a); }
// Sixteen values of IEEE binary16, and their rounding to it, to nearest even.
INLINE f32x16 f_load_half(const uint16_t *p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}
INLINE void f_store_half(uint16_t *p, f32x16 a) {
  _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
INLINE f32x16 f_set1(float a) { return _mm512_set1_ps(a); }
INLINE f32x16 f_add(f32x16 a, f32x16 b) { return _mm512_add_ps(a, b); }
INLINE f32x16 f_sub(f32x16 a, f32x16 b) { return _mm512_sub_ps(a, b); }
INLINE f32x16 f_mul(f32x16 a, f32x16 b) { return _mm512_mul_ps(a, b); }
INLINE f32x16 f_div(f32x16 a, f32x16 b) { return _mm512_div_ps(a, b); }
INLINE f32x16 f_fma(f32x16 a, f32x16 b, f32x16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE f32x16 f_abs(f32x16 a) { return _mm512_abs_ps(a); }
INLINE f32x16 f_round(f32x16 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// The second operand where either is not a number.
INLINE f32x16 f_min(f32x16 a, f32x16 b) { return _mm512_min_ps(a, b); }
INLINE f32x16 f_max(f32x16 a, f32x16 b) { return _mm512_max_ps(a, b); }
// `a`, but `value` in lanes where `x < limit`.
INLINE f32x16 f_replace_below(f32x16 a, f32x16 x, f32x16 limit, f32x16 value) {
  return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), value);
}
INLINE f32x16 f_from_i32(i32x16 a) { return _mm512_cvtepi32_ps(a); }
INLINE i32x16 i_from_f32(f32x16 a) { return _mm512_cvtps_epi32(a); }
INLINE f32x16 f_from_bits(i32x16 a) { return _mm512_castsi512_ps(a); }
// The halves of sixteen lanes added, or the larger of each.
INLINE __m256 f_fold_add(f32x16 a) {
  return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}
INLINE __m256 f_fold_max(f32x16 a) {
  return _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

INLINE i32x16 i_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void i_store(void *p, i32x16 a) { _mm512_storeu_si512(p, a); }
INLINE i32x16 i_zero(void) { return _mm512_setzero_si512(); }
INLINE i32x16 i_set1(int32_t a) { return _mm512_set1_epi32(a); }
INLINE i32x16 i_add(i32x16 a, i32x16 b) { return _mm512_add_epi32(a, b); }
INLINE i32x16 i_mul(i32x16 a, i32x16 b) { return _mm512_mullo_epi32(a, b); }
INLINE i32x16 i_abs(i32x16 a) { return _mm512_abs_epi32(a); }
INLINE i32x16 i_and(i32x16 a, i32x16 b) { return _mm512_and_si512(a, b); }
INLINE i32x16 i_xor(i32x16 a, i32x16 b) { return _mm512_xor_si512(a, b); }
INLINE i32x16 i_shift_left(i32x16 a, int bits) { return _mm512_slli_epi32(a, bits); }
INLINE i32x16 i_shift_right(i32x16 a, int bits) { return _mm512_srai_epi32(a, bits); }
INLINE i32x16 i_from_i8(const int8_t *p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p));
}
// The same value, of which the compiler knows nothing.
INLINE i32x16 i_opaque(i32x16 a) {
  __asm__ volatile("" : "+v"(a));
  return a;
}
// Sixteen integers as bytes; those outside of -128...127 are undefined.
INLINE i8x16 i_to_i8(i32x16 a) { return _mm512_cvtepi32_epi8(a); }

// Weights of sixteen rows and four columns as the multiplier takes them.
typedef __m512i operand;
typedef __m512i table;

INLINE table table_of(const int8_t *codebook) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)codebook));
}
INLINE i32x16 unpack_low(table entries, i32x16 codes) {
#ifdef PERMUTE_BYTES
  // Its indices are six bits, of which two choose among copies of the table: nothing to mask.
  return PERMUTE_BYTES(codes, entries);
#else
  return _mm512_shuffle_epi8(entries, _mm512_and_si512(codes, _mm512_set1_epi8(15)));
#endif
}
INLINE i32x16 unpack_high(table entries, i32x16 codes) {
  return unpack_low(entries, _mm512_srli_epi16(codes, 4));
}
#define WEIGHT_BIAS 128
INLINE operand operand_of(i32x16 biased) { return biased; }
INLINE i32x16 dot4(i32x16 sums, operand weights, i32x16 activations) {
  return _mm512_dpbusd_epi32(sums, weights, activations);
}

// Four products of bytes in each lane, the first factors in 0...127.
INLINE i32x16 dot4_positive(i32x16 sums, i32x16 codes, i32x16 values) {
  return _mm512_dpbusd_epi32(sums, codes, values);
}

// Register tile of products with int8 activations: 10 exact sums, 10 accumulators, 2 weights,
// 1 activation. A larger tile needs fewer loads for each product, but its sums join the
// accumulators in larger lumps, which processors overlap less well with the next block's products.
#define TILE_PANELS 2
#define TOKEN_GROUP 5
// Steps of four columns, of at most eight in a block, that are one piece of code.
#define TILE_UNROLLING 8
#define FOR_EACH_GROUP_WIDTH(CASE) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5)
// Without a tile: as many tokens as one panel's sums and accumulators leave registers for.
#define STREAM_TOKENS 12
// Steps of eight columns that are one piece of code; more leave the compiler too few registers.
#define STREAM_UNROLLING 2
#define FOR_EACH_STREAM_WIDTH(CASE) \
  FOR_EACH_GROUP_WIDTH(CASE) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
// Queries that attention takes together, and the sums that they share: half of the registers.
#define QUERY_BLOCK 8
#define ATTENTION_SUMS 16
// Sums of a Mamba2 scan, of sixteen features and one token each, that are taken together.
#define SCAN_SUMS 4
// Chains that keep the multipliers busy.
#define INDEPENDENT_DOTS 16

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
