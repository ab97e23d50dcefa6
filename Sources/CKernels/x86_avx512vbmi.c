// AVX-512 with VNNI and VBMI: the kernels of x86_avx512vnni.c with a lookup of 4-bit codes whose
// indices need no mask.

#define KERNELS ck_table_avx512vbmi
#define TARGET \
  __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")))
#define PERMUTE_BYTES _mm512_permutexvar_epi8

#include "x86_avx512vnni.c"
