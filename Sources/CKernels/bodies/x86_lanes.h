// What all x86 instruction sets share: reductions of sixteen lanes.

// Halves are added to each other until one lane is left.
INLINE float f_sum(f32x16 a) {
  __m256 b = f_fold_add(a);
  __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}

// The largest lane; lanes must be numbers.
INLINE float f_maximum(f32x16 a) {
  __m256 b = f_fold_max(a);
  __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}
