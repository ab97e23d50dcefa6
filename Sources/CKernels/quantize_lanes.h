// Sixteen lanes, one for each row of a panel: a register, two or four of them, as the instruction
// set has it.
#ifndef QUANTIZE_LANES_H
#define QUANTIZE_LANES_H

#include <stdint.h>

// Lanes never cross a call that is not inlined, so no calling convention matters.
#pragma clang diagnostic ignored "-Wpsabi"

typedef float lanes __attribute__((ext_vector_type(16)));
typedef int32_t lanes_int __attribute__((ext_vector_type(16)));
typedef int8_t lanes_byte __attribute__((ext_vector_type(16)));
typedef double lanes_double __attribute__((ext_vector_type(16)));

#define INLINE static inline __attribute__((always_inline))

// The border above entry c of a codebook: values beyond it are nearer to entry c + 1.
INLINE float codebook_border(const float *entries, int c) {
  return 0.5f * (entries[c] + entries[c + 1]);
}

#endif
