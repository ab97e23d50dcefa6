// What this processor has. Every feature that a kernel's target attribute names is checked here;
// __builtin_cpu_supports also checks that the operating system saves the registers.

#include "CKernels.h"

#if defined(__x86_64__)

extern const ck_kernels ck_table_avx2, ck_table_avx512vnni;

static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const ck_kernels *ck_kernels_avx2(void) { return has_avx2() ? &ck_table_avx2 : 0; }

const ck_kernels *ck_kernels_avx512vnni(void) {
  bool present = has_avx2() && __builtin_cpu_supports("avx512f") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  return present ? &ck_table_avx512vnni : 0;
}

#define FEATURE(number, name) \
  case number: \
    *present = __builtin_cpu_supports(name) != 0; \
    return name;

const char *ck_cpu_feature(int32_t index, bool *present) {
  switch (index) {
    FEATURE(0, "avx2")
    FEATURE(1, "fma")
    FEATURE(2, "avx512f")
    FEATURE(3, "avx512bw")
    FEATURE(4, "avx512dq")
    FEATURE(5, "avx512vl")
    FEATURE(6, "avx512vnni")
    default: return 0;
  }
}

#else

const ck_kernels *ck_kernels_avx2(void) { return 0; }
const ck_kernels *ck_kernels_avx512vnni(void) { return 0; }

const char *ck_cpu_feature(int32_t index, bool *present) {
  (void)index;
  *present = false;
  return 0;
}

#endif

uint64_t ck_read_portably(const void *memory, int64_t byte_count) {
  const uint64_t *words = memory;
  uint64_t sums[4] = {0};
  for (int64_t i = 0; i + 3 < byte_count / 8; i += 4) {
    for (int j = 0; j < 4; j++) sums[j] += words[i + j];
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}
