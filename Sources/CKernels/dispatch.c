// What this processor has. Every feature that a kernel's target attribute names is checked here.

#include "CKernels.h"

#define FEATURE(number, name, test) \
  case number: \
    *present = (test) != 0; \
    return name;

// __builtin_cpu_supports also checks that the operating system saves the registers.
#if defined(__x86_64__)

extern const ck_kernels ck_table_avx2, ck_table_avxvnni, ck_table_avx512vl,
    ck_table_avx512vnni, ck_table_avx512vbmi;

static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

const ck_kernels *ck_kernels_avx2(void) { return has_avx2() ? &ck_table_avx2 : 0; }

const ck_kernels *ck_kernels_avxvnni(void) {
  return has_avx2() && __builtin_cpu_supports("avxvnni") ? &ck_table_avxvnni : 0;
}

const ck_kernels *ck_kernels_avx512vl(void) {
  bool present = has_avx2() && __builtin_cpu_supports("avx512f") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  return present ? &ck_table_avx512vl : 0;
}

const ck_kernels *ck_kernels_avx512vnni(void) {
  bool present = has_avx2() && __builtin_cpu_supports("avx512f") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  return present ? &ck_table_avx512vnni : 0;
}

const ck_kernels *ck_kernels_avx512vbmi(void) {
  bool present = ck_kernels_avx512vnni() && __builtin_cpu_supports("avx512vbmi");
  return present ? &ck_table_avx512vbmi : 0;
}

#define X86_FEATURE(number, name) FEATURE(number, name, __builtin_cpu_supports(name))

const char *ck_cpu_feature(int32_t index, bool *present) {
  switch (index) {
    X86_FEATURE(0, "avx2")
    X86_FEATURE(1, "fma")
    X86_FEATURE(2, "avx512f")
    X86_FEATURE(3, "avx512bw")
    X86_FEATURE(4, "avx512dq")
    X86_FEATURE(5, "avx512vl")
    X86_FEATURE(6, "avx512vnni")
    X86_FEATURE(7, "avxvnni")
    X86_FEATURE(8, "f16c")
    X86_FEATURE(9, "avx512vbmi")
    default: return 0;
  }
}

#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

extern const ck_kernels ck_table_neon;

static bool has_dot_products(void) { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }

const ck_kernels *ck_kernels_neon(void) { return has_dot_products() ? &ck_table_neon : 0; }

const char *ck_cpu_feature(int32_t index, bool *present) {
  switch (index) {
    FEATURE(0, "dotprod", has_dot_products())
    default: return 0;
  }
}

#else

const char *ck_cpu_feature(int32_t index, bool *present) {
  (void)index;
  *present = false;
  return 0;
}

#endif

#if !defined(__x86_64__)
const ck_kernels *ck_kernels_avx2(void) { return 0; }
const ck_kernels *ck_kernels_avxvnni(void) { return 0; }
const ck_kernels *ck_kernels_avx512vl(void) { return 0; }
const ck_kernels *ck_kernels_avx512vnni(void) { return 0; }
const ck_kernels *ck_kernels_avx512vbmi(void) { return 0; }
#endif
#if !defined(__aarch64__)
const ck_kernels *ck_kernels_neon(void) { return 0; }
#endif

uint64_t ck_read_portably(const void *memory, int64_t byte_count) {
  const uint64_t *words = memory;
  uint64_t sums[4] = {0};
  for (int64_t i = 0; i + 3 < byte_count / 8; i += 4) {
    for (int j = 0; j < 4; j++) sums[j] += words[i + j];
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}
