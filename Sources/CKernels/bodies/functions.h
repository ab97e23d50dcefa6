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

// A whole group of sixteen values, or what is left of one, with zeros behind it.
INLINE f32x16 f_load_left(const float *p, int64_t left) {
  return left >= 16 ? f_load(p) : f_load_some(p, left);
}

INLINE void f_store_left(float *p, f32x16 a, int64_t left) {
  if (left >= 16) {
    f_store(p, a);
  } else {
    f_store_some(p, a, left);
  }
}

static void layer_norm(const float *input, const float *weight, const float *bias, int64_t count,
                       float epsilon, float *output) {
  f32x16 sums = f_set1(0), squares = f_set1(0);
  for (int64_t i = 0; i < count; i += 16) {
    sums = f_add(sums, f_load_left(input + i, count - i));
  }
  f32x16 mean = f_set1(f_sum(sums) / (float)count);
  for (int64_t i = 0; i < count; i += 16) {
    float distances[16];
    f_store(distances, f_sub(f_load_left(input + i, count - i), mean));
    // What lies past the end is as far from the mean as zero is, and does not count.
    f32x16 distance = f_load_left(distances, count - i);
    squares = f_fma(distance, distance, squares);
  }
  float root = __builtin_elementwise_sqrt(f_sum(squares) / (float)count + epsilon);
  f32x16 inverse = f_set1(1 / root);
  for (int64_t i = 0; i < count; i += 16) {
    int64_t left = count - i;
    f32x16 x = f_mul(f_sub(f_load_left(input + i, left), mean), inverse);
    x = f_add(f_mul(x, f_load_left(weight + i, left)), f_load_left(bias + i, left));
    f_store_left(output + i, x, left);
  }
}

static void gelu(const float *input, int64_t count, float *output) {
  for (int64_t i = 0; i < count; i += 16) {
    f32x16 x = f_load_left(input + i, count - i);
    f32x16 factor = f_fma(f_mul(x, x), f_set1(-0x1.2444f2p-4f), f_set1(-0x1.988454p+0f));
    f_store_left(output + i, f_div(x, f_add(f_set1(1), f_exp(f_mul(x, factor)))), count - i);
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

static void rotate(const float *head, const float *cosines, const float *sines, int64_t size,
                   float *output) {
  int64_t half = size / 2;
  for (int64_t j = 0; j < half; j += 16) {
    int64_t left = half - j;
    f32x16 a = f_load_left(head + j, left), b = f_load_left(head + half + j, left);
    f32x16 cosine = f_load_left(cosines + j, left), sine = f_load_left(sines + j, left);
    f_store_left(output + j, f_sub(f_mul(a, cosine), f_mul(b, sine)), left);
    f_store_left(output + half + j, f_add(f_mul(b, cosine), f_mul(a, sine)), left);
  }
}

static void mix(const float *const *rows, const float *weights, int64_t row_count, int64_t count,
                float *output) {
  for (int64_t i = 0; i < count; i += 16) {
    f32x16 sum = f_mul(f_set1(weights[0]), f_load(rows[0] + i));
    for (int64_t r = 1; r < row_count; r++) {
      sum = f_fma(f_set1(weights[r]), f_load(rows[r] + i), sum);
    }
    f_store(output + i, sum);
  }
}

static void divide(float *values, float divisor, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) {
    f_store(values + i, f_div(f_load(values + i), f_set1(divisor)));
  }
}
