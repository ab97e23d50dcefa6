// Exponentials, norms and gates over sixteen lanes. `Reference` in Swift is the specification of
// every one.

// `count` < 16 values followed by zeros.
INLINE f32x16 f_load_some(const float *p, int64_t count) {
  float lanes[16] = {0};
  memcpy(lanes, p, (size_t)count * 4);
  return f_load(lanes);
}

INLINE void f_store_some(float *p, f32x16 a, int64_t count) {
  float lanes[16];
  f_store(lanes, a);
  memcpy(p, lanes, (size_t)count * 4);
}

INLINE f32x16 f_exp(f32x16 x) {
  f32x16 y = f_min(f_set1(88), x);
  f32x16 n = f_round(f_mul(y, f_set1(0x1.715476p+0f)));
  f32x16 r = f_fma(n, f_set1(-0x1.63p-1f), y);
  r = f_fma(n, f_set1(0x1.bd0106p-13f), r);
  f32x16 p = f_set1(0x1.a01a02p-13f);
  p = f_fma(p, r, f_set1(0x1.6c16c2p-10f));
  p = f_fma(p, r, f_set1(0x1.111112p-7f));
  p = f_fma(p, r, f_set1(0x1.555556p-5f));
  p = f_fma(p, r, f_set1(0x1.555556p-3f));
  p = f_fma(p, r, f_set1(0.5f));
  p = f_fma(p, r, f_set1(1));
  p = f_fma(p, r, f_set1(1));
  i32x16 exponent = i_shift_left(i_add(i_from_f32(n), i_set1(127)), 23);
  return f_replace_below(f_mul(p, f_from_bits(exponent)), x, f_set1(-87), f_set1(0));
}

static void rms_norm(const float *input, const float *weight, int64_t count, float epsilon,
                     float *output) {
  f32x16 squares = f_set1(0);
  int64_t whole = count / 16 * 16;
  int64_t rest = count - whole;
  for (int64_t i = 0; i < whole; i += 16) {
    f32x16 x = f_load(input + i);
    squares = f_fma(x, x, squares);
  }
  if (rest > 0) {
    f32x16 x = f_load_some(input + whole, rest);
    squares = f_fma(x, x, squares);
  }
  float mean = f_sum(squares) / (float)count;
  float root = __builtin_elementwise_sqrt(mean + epsilon);
  f32x16 inverse = f_set1(1 / root);
  for (int64_t i = 0; i < whole; i += 16) {
    f_store(output + i, f_mul(f_mul(f_load(input + i), inverse), f_load(weight + i)));
  }
  if (rest > 0) {
    f32x16 x = f_mul(f_load_some(input + whole, rest), inverse);
    f_store_some(output + whole, f_mul(x, f_load_some(weight + whole, rest)), rest);
  }
}

INLINE f32x16 gated(f32x16 gate, f32x16 up) {
  f32x16 negated = f_mul(gate, f_set1(-1));
  return f_mul(f_div(gate, f_add(f_set1(1), f_exp(negated))), up);
}

static void gated_silu(const float *gate, const float *up, int64_t count, float *output) {
  int64_t whole = count / 16 * 16;
  int64_t rest = count - whole;
  for (int64_t i = 0; i < whole; i += 16) {
    f_store(output + i, gated(f_load(gate + i), f_load(up + i)));
  }
  if (rest > 0) {
    f_store_some(output + whole,
                 gated(f_load_some(gate + whole, rest), f_load_some(up + whole, rest)), rest);
  }
}

static void divide(float *values, float divisor, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) {
    f_store(values + i, f_div(f_load(values + i), f_set1(divisor)));
  }
}
