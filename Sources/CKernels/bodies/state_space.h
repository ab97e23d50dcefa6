// Time steps, convolution and scan of Mamba2 layers. `Reference` in Swift is the specification of all.

INLINE double d_from_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

INLINE uint64_t d_bits(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW 0x1.a39ef35793c76p-33
// Added to a small number, it rounds that to the nearest integer (ties to even), which is then in the
// low bits.
#define INTEGER_BITS 0x1.8p52

// Both without branches, so that a loop over them becomes one of vectors.

// `PortableMath.exp` for x <= 20, to be rounded to float32: below -700 nothing is left of it there.
// Beyond 20 the result means nothing.
INLINE double d_exp(double x) {
  double y = x < -700 ? -700 : x > 20 ? 20 : x;
  double shifted = y * 0x1.71547652b82fep+0 + INTEGER_BITS, n = shifted - INTEGER_BITS;
  double high = y - n * LN2_HIGH, low = n * LN2_LOW, r = high - low, lost = (high - r) - low;
  double p = 1 / 6227020800.0;  // 1/13!
  p = p * r + 1 / 479001600.0;
  p = p * r + 1 / 39916800.0;
  p = p * r + 1 / 3628800.0;
  p = p * r + 1 / 362880.0;
  p = p * r + 1 / 40320.0;
  p = p * r + 1 / 5040.0;
  p = p * r + 1 / 720.0;
  p = p * r + 1 / 120.0;
  p = p * r + 1 / 24.0;
  p = p * r + 1 / 6.0;
  p = p * r + 1 / 2.0;
  double scale = d_from_bits((d_bits(shifted) - d_bits(INTEGER_BITS) + 1023) << 52);
  return (1 + (r + (r * r * p + lost))) * scale;
}

// `PortableMath.log` of a normal number > 0.
INLINE double d_log(double x) {
  double significand = d_from_bits((d_bits(x) & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000);
  double exponent = d_from_bits(d_bits(INTEGER_BITS) + (d_bits(x) >> 52)) - INTEGER_BITS - 1023;
  bool is_large = significand >= 0x1.6a09e667f3bcdp+0;
  exponent = is_large ? exponent + 1 : exponent;
  double f = (is_large ? significand * 0.5 : significand) - 1, s = f / (2 + f), square = s * s;
  double series = 0;
#pragma clang loop unroll(full)
  for (int j = 11; j > 0; j--) series = (series + 2 / (double)(2 * j + 1)) * square;
  double half = 0.5 * f * f;
  return exponent * LN2_HIGH - ((half - (s * (half + series) + exponent * LN2_LOW)) - f);
}

static void time_steps(const float *restrict raw, int64_t stride, float bias, float rate,
                       int64_t tokens, float *restrict steps, float *restrict decays) {
  for (int64_t t = 0; t < tokens; t++) steps[t] = raw[t * stride] + bias;
#pragma clang loop vectorize(enable)
  for (int64_t t = 0; t < tokens; t++) {
    double x = steps[t], power = d_exp(x);
    double softplus = x < -18 ? power : d_log(1 + power);
    // Not a number stays so.
    float step = x <= 20 ? (float)softplus : steps[t];
    steps[t] = step;
    float exponent = step * rate;
    decays[t] = (float)d_exp(exponent);
  }
}

static void convolve(const float *const *rows, int64_t taps, const float *weights,
                     int64_t weight_stride, const float *bias, int64_t count, float *output) {
  for (int64_t i = 0; i < count; i += 16) {
    int64_t left = count - i;
    f32x16 sum = f_load_left(bias + i, left);
    for (int64_t j = 0; j < taps; j++) {
      f32x16 weight = f_load_left(weights + j * weight_stride + i, left);
      sum = f_fma(weight, f_load_left(rows[j] + i, left), sum);
    }
    f_store_left(output + i, gated(sum, f_set1(1)), left);
  }
}

// Tokens that share a load and a store of each element of the state.
#define SCAN_TOKENS 2

// Takes the state of `vectors` times sixteen features, from `d` on, through `tokens` tokens from `first`
// on. Each element of it is loaded and stored once; the sums do not wait for each other.
INLINE void scan_some(const ck_scan *scan, int64_t d, int64_t first, const int vectors,
                      const int tokens) {
  int64_t padded = (scan->head_size + 15) / 16 * 16, left = scan->head_size - d;
  const float *inputs = scan->inputs + first * scan->stride + d;
  float *outputs = scan->outputs + first * scan->output_stride + d, *state = scan->state + d;
  const float *written[SCAN_TOKENS], *read[SCAN_TOKENS];
  f32x16 scaled[SCAN_TOKENS][SCAN_SUMS], sums[SCAN_TOKENS][SCAN_SUMS], decays[SCAN_TOKENS];
#pragma clang loop unroll(full)
  for (int t = 0; t < tokens; t++) {
    written[t] = scan->written + (first + t) * scan->stride;
    read[t] = scan->read + (first + t) * scan->stride;
    decays[t] = f_set1(scan->decays[first + t]);
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      f32x16 input = f_load_left(inputs + t * scan->stride + 16 * v, left - 16 * v);
      scaled[t][v] = f_mul(input, f_set1(scan->steps[first + t]));
      sums[t][v] = f_set1(0);
    }
  }
  for (int64_t n = 0; n < scan->state_size; n++, state += padded) {
    f32x16 element[SCAN_SUMS];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) element[v] = f_load(state + 16 * v);
#pragma clang loop unroll(full)
    for (int t = 0; t < tokens; t++) {
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        element[v] = f_fma(scaled[t][v], f_set1(written[t][n]), f_mul(element[v], decays[t]));
        sums[t][v] = f_fma(element[v], f_set1(read[t][n]), sums[t][v]);
      }
    }
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) f_store(state + 16 * v, element[v]);
  }
#pragma clang loop unroll(full)
  for (int t = 0; t < tokens; t++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      f32x16 input = f_load_left(inputs + t * scan->stride + 16 * v, left - 16 * v);
      f_store_left(outputs + t * scan->output_stride + 16 * v,
                   f_fma(f_set1(scan->skip), input, sums[t][v]), left - 16 * v);
    }
  }
}

INLINE void scan_all(const ck_scan *scan, int64_t first, const int vectors, const int tokens) {
  int64_t d = 0;
  for (; d + 16 * vectors <= scan->head_size; d += 16 * vectors) {
    scan_some(scan, d, first, vectors, tokens);
  }
  for (; d < scan->head_size; d += 16) scan_some(scan, d, first, 1, tokens);
}

static void scan(const ck_scan *scan) {
  int64_t first = 0;
  for (; first + SCAN_TOKENS <= scan->tokens; first += SCAN_TOKENS) {
    scan_all(scan, first, SCAN_SUMS / SCAN_TOKENS, SCAN_TOKENS);
  }
  for (; first < scan->tokens; first++) scan_all(scan, first, SCAN_SUMS, 1);
}
