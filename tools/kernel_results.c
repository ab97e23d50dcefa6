// Runs the kernels of one instruction set on pseudorandom inputs and prints a line with a digest of
// the results' bits for each case. Built for two processors, it tells whether their kernels agree;
// tools/check-neon does that.
//
// Inputs and outputs end at pages that cannot be touched, and results are digested in the order of
// rows and tokens, so that the layout of activations, which kernels choose, plays no part.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "CKernels.h"

static uint64_t state;

static uint64_t next(void) {  // SplitMix64
  uint64_t z = state += 0x9E3779B97F4A7C15;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

// Between -scale and scale; of a hundred values one is ten thousand times as large, one zero.
static float value(float scale) {
  uint64_t bits = next();
  float uniform = (float)(int32_t)bits * 0x1p-31f * scale;
  uint64_t chance = (bits >> 32) % 100;
  return chance == 0 ? uniform * 1e4f : chance == 1 ? 0 : uniform;
}

// ---- Memory that ends at a guard page; all of it is freed at the end of a case ---------------

static struct { char *base; size_t size; } mappings[128];
static int mapping_count;

static void *take(size_t bytes) {
  size_t page = 1 << 16, size = (bytes + 63 & ~(size_t)63) + page - 1 & ~(page - 1);
  int readable = PROT_READ | PROT_WRITE;
  char *base = mmap(0, size + page, readable, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED || mprotect(base + size, page, PROT_NONE) || mapping_count == 128) abort();
  mappings[mapping_count].base = base;
  mappings[mapping_count++].size = size + page;
  return base + size - bytes;
}

static void release(void) {
  while (mapping_count) {
    mapping_count--;
    munmap(mappings[mapping_count].base, mappings[mapping_count].size);
  }
}

static float *values(int64_t count, float scale) {
  float *p = take((size_t)count * 4);
  for (int64_t i = 0; i < count; i++) p[i] = value(scale);
  return p;
}

static uint16_t *halves(int64_t count) {  // bfloat16
  uint16_t *p = take((size_t)count * 2);
  for (int64_t i = 0; i < count; i++) {
    float f = value(1);
    memcpy(p + i, (char *)&f + 2, 2);
  }
  return p;
}

static void *bytes(int64_t count) {
  uint8_t *p = take((size_t)count);
  for (int64_t i = 0; i < count; i++) p[i] = (uint8_t)next();
  return p;
}

// ---- Digests ---------------------------------------------------------------------------------

static uint64_t digest;

static void add(const void *memory, size_t count) {
  const uint8_t *p = memory;
  for (size_t i = 0; i < count; i++) digest = (digest ^ p[i]) * 0x100000001B3;  // FNV-1a
}

// All NaNs are one, as the specification says.
static void add_floats(const float *p, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    float f = isnan(p[i]) ? NAN : p[i];
    add(&f, 4);
  }
}

static void finish(const char *name, int64_t a, int64_t b, int64_t c) {
  printf("%s %lld %lld %lld %016llx\n", name, (long long)a, (long long)b, (long long)c,
         (unsigned long long)digest);
  digest = 0;
  release();
}

// ---- Cases -----------------------------------------------------------------------------------

static int64_t group_of(const ck_kernels *k, int64_t tokens) {
  return ck_token_group(tokens, k->stream_tokens, k->token_group);
}

// Where a token's values of column `column` on lie, in units of elements (see `ck_activations`);
// `width` gets how far apart columns are.
static int64_t place(const ck_kernels *k, int64_t column, int64_t padded, int64_t token,
                     int64_t tokens, int64_t *width) {
  int64_t group = group_of(k, tokens), first = token / group * group;
  int64_t tile = column / k->tile_columns * k->tile_columns;
  int64_t left = padded - tile, columns = left < k->tile_columns ? left : k->tile_columns;
  *width = tokens - first < group ? tokens - first : group;
  return tile * tokens + first * columns + (column - tile) * *width;
}

static ck_activations quantized(const ck_kernels *k, const float *input, const float *column_scales,
                                int64_t columns, int64_t padded, int block_size, int64_t tokens) {
  int8_t *codes = take((size_t)(tokens * padded));
  float *scales = take((size_t)(tokens * padded / block_size * 4));
  int32_t *starts = take((size_t)(tokens * padded / block_size * 4));
  for (int64_t t = 0; t < tokens; t++) {
    // In two parts, somewhere else for every token.
    int64_t middle = t * 96 % padded / block_size * block_size;
    bool finite = true;
    for (int part = 0; part < 2; part++) {
      finite &= k->quantize(input + t * columns, column_scales, columns, padded,
                            part ? middle : 0, part ? padded : middle, block_size, t, tokens,
                            codes, scales, starts);
    }
    add(&finite, sizeof finite);
    // The products show what codes and starts are.
    for (int64_t column = 0; finite && column < padded; column += block_size) {
      int64_t width, at = place(k, column, padded, t, tokens, &width);
      add(scales + at / block_size + t % group_of(k, tokens), 4);
    }
  }
  return (ck_activations){.codes = codes, .scales = scales, .starts = starts, .tokens = tokens};
}

static ck_activations unquantized(const ck_kernels *k, const float *input, int64_t columns,
                                  int64_t padded, int64_t tokens) {
  float *placed = take((size_t)(tokens * padded * 4));
  for (int64_t t = 0; t < tokens; t++) {
    for (int64_t column = 0; column < padded; column++) {
      int64_t width, at = place(k, column, padded, t, tokens, &width);
      placed[at + t % group_of(k, tokens)] = column < columns ? input[t * columns + column] : 0;
    }
  }
  return (ck_activations){.values = placed, .tokens = tokens};
}

static void products(const ck_kernels *k, int bits, int block_size, int64_t panels,
                     int64_t columns, int64_t tokens) {
  int64_t padded = (columns + 31) / 32 * 32, count = panels * 16 * padded;
  ck_weights w = {
      .padded_columns = padded,
      .block_size = block_size,
      .element_bits = bits,
      .codes = bits == 32   ? (void *)values(count, 1)
               : bits == 16 ? (void *)halves(count)
                            : bytes(count * bits / 8),
      .codebook = bytes(16),
      .row_scales = values(panels * 16, 1e-4f),
  };
  float *factors = values(padded, 4);
  const float *input = values(tokens * columns, 1);
  int64_t stride = panels * 16 + 3;
  float *output = take((size_t)(tokens * stride * 4));
  ck_activations x;
  if (block_size) {
    w.block_scales = bytes(panels * padded / block_size * 16);
    if (columns % 2) w.column_scales = factors;
    x = quantized(k, input, w.column_scales, columns, padded, block_size, tokens);
    k->multiply_int8(&w, &x, output, stride, 0, panels);
    add_floats(output, tokens * stride);
  }
  x = unquantized(k, input, columns, padded, tokens);
  k->multiply_f32(&w, &x, output, stride, 0, panels);
  add_floats(output, tokens * stride);
  char name[32];
  snprintf(name, sizeof name, "product-%d-%d", bits, block_size);
  finish(name, panels, columns, tokens);
}

static void refusals(const ck_kernels *k) {
  static const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -0.0f, 1e-40f};
  for (int i = 0; i < 6; i++) {
    float *input = values(32, 1), *factors = values(32, 4);
    input[7 * i % 32] = odd[i];
    factors[7 * i % 32] = 4;
    quantized(k, input, factors, 32, 32, 16, 1);
  }
  finish("refusals", 0, 0, 0);
}

static void functions(const ck_kernels *k, int64_t count, float scale) {
  float *gate = values(count, scale), *up = values(count, scale);
  float *output = take((size_t)count * 4);
  const float odd[] = {NAN, INFINITY, -INFINITY, -87, 88, -0.0f, 1e-40f, 87.5f};
  for (int i = 0; i < 8 && i < count - 1; i++) gate[i] = odd[i];
  k->gated_silu(gate, up, count, output);
  add_floats(output, count);
  k->gelu(gate, count, output);
  add_floats(output, count);
  k->rms_norm(up, gate, count, 1e-5f, output);
  add_floats(output, count);
  k->layer_norm(up, gate, output, count, 1e-5f, output);
  add_floats(output, count);
  int64_t whole = count / 16 * 16;
  const float *rows[] = {gate, up, output};
  float *sum = take((size_t)whole * 4);
  k->mix(rows, (const float[]){0.5f, -3, 0.3f}, 3, whole, sum);
  add_floats(sum, whole);
  k->divide(up, 3, whole);
  add_floats(up, whole);
  k->rotate(up, gate, gate + count / 2, count / 2 * 2, output);
  add_floats(output, count);
  finish("functions", count, (int64_t)scale, 0);
}

// Odd numbers of channels, taps, features, elements and tokens.
static void state_space(const ck_kernels *k, int64_t head_size, int64_t state_size,
                        int64_t tokens) {
  int64_t taps = 1 + tokens % 5, stride = head_size + 2 * state_size + 1;
  const float *rows[5];
  for (int64_t j = 0; j < taps; j++) rows[j] = values(stride, 3);
  float *convolved = take((size_t)stride * 4);
  k->convolve(rows, taps, values(taps * stride, 1), stride, values(stride, 1), stride, convolved);
  add_floats(convolved, stride);

  int64_t padded = (head_size + 15) / 16 * 16, last = (tokens - 1) * stride;
  float *inputs = values(last + head_size, 1), *steps = take((size_t)tokens * 4);
  float *decays = take((size_t)tokens * 4), *state = values(state_size * padded, 1);
  k->time_steps(inputs, stride, 0.5f, -2, tokens, steps, decays);
  add_floats(steps, tokens);
  add_floats(decays, tokens);
  ck_scan scan = {state, inputs, values(last + state_size, 1), values(last + state_size, 1),
                  stride, steps, decays, 0.7f, take((size_t)(tokens * head_size) * 4), head_size,
                  tokens, head_size, state_size};
  k->scan(&scan);
  add_floats(scan.outputs, tokens * head_size);
  for (int64_t n = 0; n < state_size; n++) add_floats(state + n * padded, head_size);
  finish("state-space", head_size, state_size, tokens);
}

// A tile with room for `count` positions, which are entered; what lies past them is poison.
static ck_cache_tile cache_tile(const ck_kernels *k, int type, int64_t count, int64_t head_size,
                                float scale) {
  int64_t size = type == CK_CACHE_F32 ? 4 : type == CK_CACHE_F16 ? 2 : 1;
  int64_t room = (count + 31) / 32 * 32, elements = room * head_size * size;
  ck_cache_tile tile = {bytes(elements), bytes(elements), take(1024), take(1024), type, k};
  memset(tile.key_scales, 0, 1024);
  memset(tile.value_scales, 0, 1024);
  for (int64_t p = 0; p < count; p++) {
    bool fits = k->enter(&tile, values(head_size, scale), values(head_size, 1), head_size,
                         head_size, p);
    add(&fits, sizeof fits);
    mapping_count -= 2;
    for (int i = 0; i < 2; i++) {
      munmap(mappings[mapping_count + i].base, mappings[mapping_count + i].size);
    }
  }
  return tile;
}

static void attention(const ck_kernels *k, int type, int64_t head_size, float scale) {
  ck_query queries[15], later[15];
  for (int64_t q = 0; q < 15; q++) {
    float *query = values(head_size, scale);
    if (q == 3 && head_size == 48) query[5] = INFINITY;
    int8_t *codes = take((size_t)head_size);
    float step = k->quantize_query(query, head_size, codes);
    add_floats(&step, 1);
    queries[q] = (ck_query){query, codes, take((size_t)head_size * 4), step, -INFINITY, 0, 0,
                            500 + 3 * q};
    later[q] = queries[q];
    later[q].output = take((size_t)head_size * 4);
  }
  ck_cache_tile first = cache_tile(k, type, 256, head_size, scale);
  ck_cache_tile second = cache_tile(k, type, 256, head_size, scale);
  ck_cache_tile third = cache_tile(k, type, 542 - 512, head_size, scale);
  k->attend(&first, 0, queries, 15, head_size, 0.125f);
  k->attend(&second, 256, queries, 15, head_size, 0.125f);
  k->attend(&third, 512, later, 15, head_size, 0.125f);
  k->merge(queries + 5, later + 5, 10, head_size);
  for (int64_t q = 0; q < 15; q++) {
    k->divide(queries[q].output, queries[q].sum, head_size);
    add_floats(queries[q].output, head_size);
    add_floats(&queries[q].maximum, 1);
    add_floats(&queries[q].sum, 1);
  }
  finish("attention", type, head_size, (int64_t)scale);
}

static void quantizers(const struct quantize_kernels *k, int32_t block_size, int32_t columns) {
  int32_t padded = (columns + 31) / 32 * 32, blocks = padded / block_size;
  float *rows = values(16 * columns, 1), *inverse = values(padded, 2), *scales = values(padded, 2);
  float *weights = take((size_t)padded * 4), *normalizers = take(64);
  for (int32_t i = 0; i < padded; i++) weights[i] = i < columns ? fabsf(value(1)) : 0;
  for (int r = 0; r < 16; r++) normalizers[r] = 0.5f + (float)(r % 2);
  float *placed = take((size_t)padded * 64);
  uint32_t *largest = take(64);
  k->load(rows, columns, columns, padded, inverse, placed, largest);
  add_floats(placed, padded * 16);
  add(largest, 64);

  struct quantize_panel panel = {placed,      scales,  inverse, weights,
                                 normalizers, columns, padded,  block_size};
  float codebook[16], units[16], row_scales[16], maxima[16];
  for (int i = 0; i < 16; i++) codebook[i] = (float)(i * i - 127 + i);
  for (int r = 0; r < 16; r++) {
    row_scales[r] = 1e-5f * (float)(1 + r);
    units[r] = row_scales[r] * normalizers[r];
  }
  float *block_scales = take((size_t)blocks * 64);
  k->q4_scales(&panel, codebook, block_scales, maxima);
  add_floats(block_scales, blocks * 16);
  add_floats(maxima, 16);
  double numerators[16] = {0}, denominators[16] = {0}, sums[QUANTIZE_SUMS];
  k->q4_fit(&panel, codebook, block_scales, numerators, denominators);
  add(numerators, sizeof numerators);
  add(denominators, sizeof denominators);
  struct quantize_output output = {take((size_t)padded * 32), take((size_t)blocks * 16), sums};
  k->q4_encode(&panel, codebook, block_scales, units, row_scales, output);
  add(output.codes, (size_t)padded * 8);
  add(output.block_scales, (size_t)blocks * 16);
  add(sums, sizeof sums);
  k->q8_encode(&panel, units, row_scales, output);
  add(output.codes, (size_t)padded * 16);
  add(output.block_scales, (size_t)blocks * 16);
  add(sums, sizeof sums);
  k->bf16_encode(placed, padded, output.codes, sums);
  add(output.codes, (size_t)padded * 32);
  add(sums, sizeof sums);
  finish("quantizers", block_size, columns, 0);
}

int main(void) {
#if defined(__x86_64__)
  const ck_kernels *k = ck_kernels_avx512vnni() ? ck_kernels_avx512vnni() : ck_kernels_avx2();
#else
  const ck_kernels *k = ck_kernels_neon();
#endif
  if (!k) {
    fputs("this processor has no vector kernels\n", stderr);
    return 1;
  }
  static const struct { int bits, block_size; } encodings[] = {
      {4, 16}, {4, 32}, {8, 16}, {8, 32}, {16, 0}, {32, 0}};
  for (int e = 0; e < 6; e++) {
    int bits = encodings[e].bits, block_size = encodings[e].block_size;
    for (int64_t tokens = 1; tokens <= 17; tokens++) {
      products(k, bits, block_size, 1 + tokens % 3, 31 * tokens, tokens);
    }
    products(k, bits, block_size, 3, 577, 1);
    products(k, bits, block_size, 2, 800, 70);
  }
  refusals(k);
  for (int64_t count = 1; count < 50; count++) {
    functions(k, count, 1);
    functions(k, count, 1000);
  }
  for (int64_t size = 1; size <= 80; size += 7) {
    state_space(k, size, 1 + size % 19, 1);
    state_space(k, size, 3 + size % 37, 1 + size);
  }
  for (int64_t head = 16; head <= 192; head += 16) {
    for (int type = CK_CACHE_F32; type <= CK_CACHE_Q8; type++) {
      attention(k, type, head, 1);
      attention(k, type, head, 100);
    }
  }
  for (int32_t columns = 1; columns < 300; columns += 37) {
    quantizers(quantize_kernels_for(QUANTIZE_AVX512), 16, columns);
    quantizers(quantize_kernels_for(QUANTIZE_AVX512), 32, columns);
  }
  return 0;
}
