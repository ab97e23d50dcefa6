// AVX2 with AVX-VNNI: the kernels of x86_avx2.c with a `vpdpbusd` of 256 bits.

#define KERNELS ck_table_avxvnni
#define TARGET __attribute__((target("avx2,fma,f16c,avxvnni")))
#define DPBUSD _mm256_dpbusd_avx_epi32

#include "x86_avx2.c"
