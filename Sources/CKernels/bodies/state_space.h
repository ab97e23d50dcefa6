// The convolution and the scan of Mamba2 layers. `Reference` in Swift is the specification of both.

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
