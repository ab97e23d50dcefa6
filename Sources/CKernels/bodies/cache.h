// Keys and values on their way into the cache, sixteen elements of a head at a time; a head may end
// within the last sixteen.

INLINE f32x16 load_piece(const float *p, int64_t left) {
  return left < 16 ? f_load_some(p, left) : f_load(p);
}

static bool enter_f32(const ck_cache_tile *tile, const float *key, const float *value,
                      int64_t size, int64_t head_size, int64_t position) {
  float *keys = (float *)tile->keys + position / 16 * head_size * 16 + position % 16;
  for (int64_t d = 0; d < size; d++) keys[d * 16] = key[d];
  memcpy((float *)tile->values + position * head_size, value, (size_t)size * 4);
  return true;
}

// Sixteen halves; their exponents go to `seen`: all ones, of infinities and of what is not a number,
// plus one in the last place carry into the sign.
INLINE void load_halves(const float *p, int64_t left, uint16_t *halves, uint32_t *seen) {
  f_store_half(halves, load_piece(p, left));
  for (int i = 0; i < 16; i++) *seen |= (halves[i] & 0x7FFFu) + 0x0400u;
}

static bool enter_f16(const ck_cache_tile *tile, const float *key, const float *value,
                      int64_t size, int64_t head_size, int64_t position) {
  uint16_t *keys = (uint16_t *)tile->keys + position / 16 * head_size * 16 + position % 16;
  uint16_t *values = (uint16_t *)tile->values + position * head_size;
  uint32_t seen = 0;
  uint16_t halves[16];
  for (int64_t d = 0; d < size; d += 16) {
    load_halves(key + d, size - d, halves, &seen);
    for (int64_t i = 0; i < 16; i++) keys[(d + i) * 16] = halves[i];
    load_halves(value + d, size - d, halves, &seen);
    memcpy(values + d, halves, sizeof halves);
  }
  return (seen & 0x8000u) == 0;
}

// Quantizes a head to int8; `run` codes lie together, `step` bytes from one run to the next. Returns
// the scale, NaN where a value is not finite.
INLINE float quantize_runs(const float *values, int64_t size, int8_t *codes, const int run,
                           const int step) {
  f32x16 largest = f_set1(0), finite = f_set1(0);
  for (int64_t d = 0; d < size; d += 16) {
    f32x16 x = load_piece(values + d, size - d);
    // x - x is 0, but not a number where x is infinite or not a number.
    finite = f_add(finite, f_sub(x, x));
    largest = f_max(f_abs(x), largest);
  }
  float amax = f_maximum(largest);
  bool is_finite = f_sum(finite) == 0;
  bool vanishes = !is_finite || amax < 0x1p-100f;
  f32x16 inverse = f_set1(vanishes ? 0 : 127 / amax);
  for (int64_t d = 0; d < size; d += 16) {
    int8_t bytes[16] = {0};
    if (!vanishes) {
      i8x16 some = i_to_i8(i_from_f32(f_mul(load_piece(values + d, size - d), inverse)));
      memcpy(bytes, &some, sizeof bytes);
    }
    for (int i = 0; i < 16; i += run) memcpy(codes + (d + i) / run * step, bytes + i, (size_t)run);
  }
  return !is_finite ? __builtin_nanf("") : vanishes ? 0 : amax / 127;
}

static float quantize_query(const float *values, int64_t size, int8_t *codes) {
  return quantize_runs(values, size, codes, 16, 16);
}

static bool enter_q8(const ck_cache_tile *tile, const float *key, const float *value, int64_t size,
                     int64_t head_size, int64_t position) {
  int8_t *keys = (int8_t *)tile->keys + position / 16 * head_size * 16 + position % 16 * 4;
  int8_t *values = (int8_t *)tile->values + position / 4 * head_size * 4 + position % 4;
  float key_scale = quantize_runs(key, size, keys, 4, 64);
  float value_scale = quantize_runs(value, size, values, 1, 4);
  bool is_finite = key_scale >= 0 && value_scale >= 0;
  tile->key_scales[position] = is_finite ? key_scale : 0;
  tile->value_scales[position] = is_finite ? value_scale : 0;
  return is_finite;
}

static bool enter(const ck_cache_tile *tile, const float *key, const float *value, int64_t size,
                  int64_t head_size, int64_t position) {
  switch (tile->type) {
    case CK_CACHE_F16: return enter_f16(tile, key, value, size, head_size, position);
    case CK_CACHE_Q8: return enter_q8(tile, key, value, size, head_size, position);
    default: return enter_f32(tile, key, value, size, head_size, position);
  }
}
