// NEON with the dot product instructions: sixteen lanes are four registers, and `sdot` multiplies
// four pairs of signed bytes per lane. Vectors of sixteen lanes are the compiler's own, which cuts
// them into registers; only what they cannot say is written for each register.

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#include "CKernels.h"

#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

#define INLINE static inline __attribute__((always_inline))

typedef float f32x16 __attribute__((ext_vector_type(16)));
typedef int32_t i32x16 __attribute__((ext_vector_type(16)));
typedef int8_t i8x16 __attribute__((ext_vector_type(16)));

typedef union {
  i32x16 whole;
  int32x4_t words[4];
  int8x16_t bytes[4];
} registers;

INLINE f32x16 f_load(const float *p) {
  f32x16 a;
  memcpy(&a, p, sizeof a);
  return a;
}
INLINE void f_store(float *p, f32x16 a) { memcpy(p, &a, sizeof a); }
// Sixteen values of IEEE binary16, and their rounding to it, to nearest even.
INLINE f32x16 f_load_half(const uint16_t *p) {
  typedef __fp16 f16x16 __attribute__((ext_vector_type(16)));
  f16x16 halves;
  memcpy(&halves, p, sizeof halves);
  return __builtin_convertvector(halves, f32x16);
}
INLINE void f_store_half(uint16_t *p, f32x16 a) {
  typedef __fp16 f16x16 __attribute__((ext_vector_type(16)));
  f16x16 halves = __builtin_convertvector(a, f16x16);
  memcpy(p, &halves, sizeof halves);
}
INLINE f32x16 f_set1(float a) { return a; }
INLINE f32x16 f_add(f32x16 a, f32x16 b) { return a + b; }
INLINE f32x16 f_sub(f32x16 a, f32x16 b) { return a - b; }
INLINE f32x16 f_mul(f32x16 a, f32x16 b) { return a * b; }
INLINE f32x16 f_div(f32x16 a, f32x16 b) { return a / b; }
INLINE f32x16 f_fma(f32x16 a, f32x16 b, f32x16 c) { return __builtin_elementwise_fma(a, b, c); }
INLINE f32x16 f_abs(f32x16 a) { return __builtin_elementwise_abs(a); }
INLINE f32x16 f_round(f32x16 a) { return __builtin_elementwise_roundeven(a); }
// The second operand where either is not a number.
INLINE f32x16 f_min(f32x16 a, f32x16 b) { return a < b ? a : b; }
INLINE f32x16 f_max(f32x16 a, f32x16 b) { return a > b ? a : b; }
// `a`, but `value` in lanes where `x < limit`.
INLINE f32x16 f_replace_below(f32x16 a, f32x16 x, f32x16 limit, f32x16 value) {
  return x < limit ? value : a;
}
INLINE f32x16 f_from_i32(i32x16 a) { return __builtin_convertvector(a, f32x16); }
// To nearest, ties to even; not C's conversion, whose result for NaN is undefined.
INLINE i32x16 i_from_f32(f32x16 a) {
  registers r = {.whole = (i32x16)a};
  for (int i = 0; i < 4; i++) r.words[i] = vcvtnq_s32_f32(vreinterpretq_f32_s32(r.words[i]));
  return r.whole;
}
INLINE f32x16 f_from_bits(i32x16 a) { return (f32x16)a; }
// Halves are added to each other until one lane is left.
INLINE float f_sum(f32x16 a) {
  float32x4_t b = (a.lo + a.hi).lo + (a.lo + a.hi).hi;
  float32x2_t c = vadd_f32(vget_low_f32(b), vget_high_f32(b));
  return vget_lane_f32(c, 0) + vget_lane_f32(c, 1);
}
// The largest lane; lanes must be numbers.
INLINE float f_maximum(f32x16 a) {
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.lo.lo, a.lo.hi), vmaxq_f32(a.hi.lo, a.hi.hi)));
}

INLINE i32x16 i_load(const void *p) {
  i32x16 a;
  memcpy(&a, p, sizeof a);
  return a;
}
INLINE void i_store(void *p, i32x16 a) { memcpy(p, &a, sizeof a); }
INLINE i32x16 i_zero(void) { return 0; }
INLINE i32x16 i_set1(int32_t a) { return a; }
INLINE i32x16 i_add(i32x16 a, i32x16 b) { return a + b; }
INLINE i32x16 i_mul(i32x16 a, i32x16 b) { return a * b; }
INLINE i32x16 i_abs(i32x16 a) { return __builtin_elementwise_abs(a); }
INLINE i32x16 i_and(i32x16 a, i32x16 b) { return a & b; }
INLINE i32x16 i_xor(i32x16 a, i32x16 b) { return a ^ b; }
INLINE i32x16 i_shift_left(i32x16 a, int bits) { return a << bits; }
INLINE i32x16 i_shift_right(i32x16 a, int bits) { return a >> bits; }
INLINE i32x16 i_from_i8(const int8_t *p) {
  i8x16 bytes;
  memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, i32x16);
}
// The same value, of which the compiler knows nothing.
INLINE i32x16 i_opaque(i32x16 a) {
  registers r = {.whole = a};
  for (int i = 0; i < 4; i++) __asm__ volatile("" : "+w"(r.words[i]));
  return r.whole;
}
// Sixteen integers as bytes; those outside of -128...127 are undefined.
INLINE i8x16 i_to_i8(i32x16 a) { return __builtin_convertvector(a, i8x16); }

// Weights of sixteen rows and four columns as the multiplier takes them.
typedef i32x16 operand;
typedef int8x16_t table;

INLINE table table_of(const int8_t *codebook) { return vld1q_s8(codebook); }
INLINE i32x16 look_up(table entries, i32x16 indices) {
  registers r = {.whole = indices};
  for (int i = 0; i < 4; i++) {
    r.bytes[i] = vqtbl1q_s8(entries, vreinterpretq_u8_s8(r.bytes[i]));
  }
  return r.whole;
}
INLINE i32x16 unpack_low(table entries, i32x16 codes) {
  return look_up(entries, codes & 0x0F0F0F0F);
}
INLINE i32x16 unpack_high(table entries, i32x16 codes) {
  return look_up(entries, codes >> 4 & 0x0F0F0F0F);
}
#define WEIGHT_BIAS 0
INLINE operand operand_of(i32x16 values) { return values; }
INLINE i32x16 dot4(i32x16 sums, operand weights, i32x16 activations) {
  registers s = {.whole = sums}, w = {.whole = weights}, a = {.whole = activations};
  for (int i = 0; i < 4; i++) s.words[i] = vdotq_s32(s.words[i], w.bytes[i], a.bytes[i]);
  return s.whole;
}

// Four products of bytes in each lane, the first factors in 0...127.
INLINE i32x16 dot4_positive(i32x16 sums, i32x16 codes, i32x16 values) {
  return dot4(sums, codes, values);
}

// Register tile of products with int8 activations: 16 sums, 4 weights, 1 activation.
#define TILE_PANELS 1
#define TOKEN_GROUP 4
#define STREAM_TOKENS 4
#define STREAM_UNROLLING 4
#define TILE_UNROLLING 8
#define FOR_EACH_GROUP_WIDTH(CASE) CASE(1) CASE(2) CASE(3) CASE(4)
#define FOR_EACH_STREAM_WIDTH FOR_EACH_GROUP_WIDTH
// Queries that attention takes together, and the sums that they share: 16 registers of 32.
#define QUERY_BLOCK 4
#define ATTENTION_SUMS 4
// Sums of a Mamba2 scan, of sixteen features and one token each, that are taken together.
#define SCAN_SUMS 2
// Chains that keep the multipliers busy.
#define INDEPENDENT_DOTS 4

#include "bodies/functions.h"
#include "bodies/activations.h"
#include "bodies/multiply_f32.h"
#include "bodies/multiply_int8.h"
#include "bodies/cache.h"
#include "bodies/attention.h"
#include "bodies/state_space.h"
#include "bodies/ceilings.h"

const ck_kernels ck_table_neon = KERNEL_TABLE;

#pragma clang attribute pop
#endif
