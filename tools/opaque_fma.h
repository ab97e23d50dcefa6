// Included before a kernel's source by tools/check-contraction: every multiply-add that the source
// asks for becomes nothing that the compiler knows, so that one in the compiled code is a product
// and a sum that were contracted.

#if defined(__x86_64__)
#include <immintrin.h>
#define OPAQUE(type, a, b, c) \
  ({ \
    type result = (c); \
    __asm__("" : "+v"(result) : "v"(a), "v"(b)); \
    result; \
  })
#define _mm256_fmadd_ps(a, b, c) OPAQUE(__m256, a, b, c)
#define _mm512_fmadd_ps(a, b, c) OPAQUE(__m512, a, b, c)
#elif defined(__aarch64__)
#include <arm_neon.h>
#define OPAQUE(type, a, b, c) \
  ({ \
    type result = (c); \
    __asm__("" : "+w"(result) : "w"(a), "w"(b)); \
    result; \
  })
#define __builtin_elementwise_fma(a, b, c) \
  ({ \
    union { \
      __typeof__(a) whole; \
      float32x4_t registers[4]; \
    } x = {a}, y = {b}, z = {c}; \
    for (int i = 0; i < 4; i++) { \
      z.registers[i] = OPAQUE(float32x4_t, x.registers[i], y.registers[i], z.registers[i]); \
    } \
    z.whole; \
  })
#endif
#define __builtin_fmaf(a, b, c) OPAQUE(float, a, b, c)
