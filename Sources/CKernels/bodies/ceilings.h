// What the machine can do at best, as yardsticks; and the table of kernels.

static uint64_t read_memory(const void *memory, int64_t byte_count) {
  const char *p = memory;
  i32x16 sums[4] = {i_zero(), i_zero(), i_zero(), i_zero()};
  for (int64_t i = 0; i < byte_count; i += 256) {
#pragma clang loop unroll(full)
    for (int j = 0; j < 4; j++) {
      __builtin_prefetch(p + i + 64 * j + 4096);
      sums[j] = i_add(sums[j], i_load(p + i + 64 * j));
    }
  }
  int32_t lanes[16];
  i_store(lanes, i_add(i_add(sums[0], sums[1]), i_add(sums[2], sums[3])));
  uint64_t total = 0;
  for (int i = 0; i < 16; i++) total += (uint32_t)lanes[i];
  return total;
}

static int64_t int8_chains(int64_t iterations, int32_t *sink) {
  i32x16 sums[INDEPENDENT_DOTS];
  for (int i = 0; i < INDEPENDENT_DOTS; i++) sums[i] = i_set1(*sink + i);
  operand weights = operand_of(i_set1(0x03050301 + *sink));
  i32x16 activations = i_set1(0x01020403 + *sink);
  for (int64_t n = 0; n < iterations; n++) {
#pragma clang loop unroll(full)
    for (int i = 0; i < INDEPENDENT_DOTS; i++) {
      // Opaque, so that no product is computed once for all.
      activations = i_opaque(activations);
      sums[i] = dot4(sums[i], weights, activations);
    }
  }
  int32_t lanes[16];
  for (int i = 1; i < INDEPENDENT_DOTS; i++) sums[0] = i_add(sums[0], sums[i]);
  i_store(lanes, sums[0]);
  for (int i = 0; i < 16; i++) *sink ^= lanes[i];
  return iterations * INDEPENDENT_DOTS * 128;
}

static int64_t fma_chains(int64_t iterations, int32_t *sink) {
  f32x16 sums[INDEPENDENT_DOTS];
  for (int i = 0; i < INDEPENDENT_DOTS; i++) sums[i] = f_set1((float)i);
  f32x16 factor = f_set1(0.5f);
  for (int64_t n = 0; n < iterations; n++) {
#pragma clang loop unroll(full)
    for (int i = 0; i < INDEPENDENT_DOTS; i++) sums[i] = f_fma(sums[i], factor, factor);
  }
  float lanes[16];
  for (int i = 1; i < INDEPENDENT_DOTS; i++) sums[0] = f_add(sums[0], sums[i]);
  f_store(lanes, sums[0]);
  for (int i = 0; i < 16; i++) *sink ^= (int32_t)lanes[i];
  return iterations * INDEPENDENT_DOTS * 32;
}

#define KERNEL_TABLE \
  {STREAM_TOKENS, TOKEN_GROUP, TILE_COLUMNS, quantize, multiply_int8, multiply_f32,   rms_norm, \
   layer_norm,    gated_silu,  gelu,         convolve, scan,          enter,          quantize_query, \
   attend,        merge,       divide,       read_memory, int8_chains, fma_chains,  mix, \
   time_steps,    rotate}
