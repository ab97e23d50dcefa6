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

INLINE f32x16 scan_step(f32x16 *state, f32x16 input, f32x16 decay, float written, float read,
                        f32x16 output) {
  *state = f_fma(input, f_set1(written), f_mul(*state, decay));
  return f_fma(*state, f_set1(read), output);
}

// One token: each element of the state is loaded and stored once. The sums of `vectors` times sixteen
// features, from `d` on, do not wait for each other.
INLINE void scan_token(const ck_scan *scan, int64_t d, const int vectors) {
  int64_t padded = (scan->head_size + 15) / 16 * 16;
  f32x16 inputs[SCAN_VECTORS], scaled[SCAN_VECTORS], sums[SCAN_VECTORS];
  f32x16 decay = f_set1(scan->decays[0]);
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) {
    inputs[v] = f_load_left(scan->inputs + d + 16 * v, scan->head_size - d - 16 * v);
    scaled[v] = f_mul(inputs[v], f_set1(scan->steps[0]));
    sums[v] = f_set1(0);
  }
  for (int64_t n = 0; n < scan->state_size; n++) {
    float *row = scan->state + n * padded + d;
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      f32x16 state = f_load(row + 16 * v);
      sums[v] = scan_step(&state, scaled[v], decay, scan->written[n], scan->read[n], sums[v]);
      f_store(row + 16 * v, state);
    }
  }
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) {
    f_store_left(scan->outputs + d + 16 * v, f_fma(f_set1(scan->skip), inputs[v], sums[v]),
                 scan->head_size - d - 16 * v);
  }
}

// Tokens whose features and sums stay in the first-level cache, together with their B and C.
#define SCAN_TOKENS 16

// `rows` elements of the state of sixteen features, which stay in registers while `tokens` tokens from
// `first` on pass.
INLINE void scan_rows(const ck_scan *scan, int64_t d, int64_t n, int64_t first, int64_t tokens,
                      const f32x16 *scaled, f32x16 *sums, const int rows) {
  int64_t padded = (scan->head_size + 15) / 16 * 16;
  float *state = scan->state + n * padded + d;
  f32x16 states[SCAN_ROWS];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) states[i] = f_load(state + i * padded);
  for (int64_t t = 0; t < tokens; t++) {
    const float *written = scan->written + (first + t) * scan->stride + n;
    const float *read = scan->read + (first + t) * scan->stride + n;
    f32x16 decay = f_set1(scan->decays[first + t]), sum = sums[t];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
      sum = scan_step(states + i, scaled[t], decay, written[i], read[i], sum);
    }
    sums[t] = sum;
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) f_store(state + i * padded, states[i]);
}

// Sixteen features of some tokens.
INLINE void scan_tokens(const ck_scan *scan, int64_t d, int64_t first, int64_t tokens) {
  f32x16 inputs[SCAN_TOKENS], scaled[SCAN_TOKENS], sums[SCAN_TOKENS];
  int64_t left = scan->head_size - d;
  for (int64_t t = 0; t < tokens; t++) {
    inputs[t] = f_load_left(scan->inputs + (first + t) * scan->stride + d, left);
    scaled[t] = f_mul(inputs[t], f_set1(scan->steps[first + t]));
    sums[t] = f_set1(0);
  }
  int64_t n = 0;
  for (; n + SCAN_ROWS <= scan->state_size; n += SCAN_ROWS) {
    scan_rows(scan, d, n, first, tokens, scaled, sums, SCAN_ROWS);
  }
  for (; n < scan->state_size; n++) scan_rows(scan, d, n, first, tokens, scaled, sums, 1);
  for (int64_t t = 0; t < tokens; t++) {
    f_store_left(scan->outputs + (first + t) * scan->output_stride + d,
                 f_fma(f_set1(scan->skip), inputs[t], sums[t]), left);
  }
}

static void scan(const ck_scan *scan) {
  if (scan->tokens == 1) {
    int64_t d = 0;
    for (; d + 16 * SCAN_VECTORS <= scan->head_size; d += 16 * SCAN_VECTORS) {
      scan_token(scan, d, SCAN_VECTORS);
    }
    for (; d < scan->head_size; d += 16) scan_token(scan, d, 1);
    return;
  }
  for (int64_t first = 0; first < scan->tokens; first += SCAN_TOKENS) {
    int64_t left = scan->tokens - first;
    int64_t tokens = left < SCAN_TOKENS ? left : SCAN_TOKENS;
    for (int64_t d = 0; d < scan->head_size; d += 16) scan_tokens(scan, d, first, tokens);
  }
}
