// The kernels of x86_avxvnni.c in the encoding of AVX-512, for processors that have only that: what
// they compute can be tested there, and used where 512 bits are not wanted.

#define KERNELS ck_table_avx512vl
#define TARGET __attribute__((target("avx2,fma,f16c,avx512f,avx512vl,avx512vnni")))
#define DPBUSD _mm256_dpbusd_epi32

#include "x86_avx2.c"
