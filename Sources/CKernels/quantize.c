#include "CQuantize.h"

extern const struct quantize_kernels quantize_scalar_kernels;
extern const struct quantize_kernels quantize_avx2_kernels;
extern const struct quantize_kernels quantize_avx512_kernels;

const struct quantize_kernels *quantize_kernels_for(int32_t instruction_set) {
#if defined(__x86_64__)
  if (instruction_set >= QUANTIZE_AVX512 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return &quantize_avx512_kernels;
  }
  if (instruction_set >= QUANTIZE_AVX2 && __builtin_cpu_supports("avx2")) {
    return &quantize_avx2_kernels;
  }
#endif
  (void)instruction_set;
  return &quantize_scalar_kernels;
}
