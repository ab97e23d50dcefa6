// Streaming attention: one tile of up to 256 positions for a block of queries that share a KV head.
//
//   scores    queries × positions, positions in lanes     every line of keys serves all queries
//   softmax   of each query by itself
//   values    queries × head elements, elements in lanes  every line of values serves all queries
//
// Queries of a block may end at different positions, as those of consecutive tokens do. What all
// attend to is weighed together; where a query ends later, it goes on alone, for a weight of 0 times
// whatever lies in the cache could still change a bit.

// Positions of a tile.
#define TILE 256

// Beyond the first tile, the running output is multiplied by `old` and joined by `new` times the
// tile's.
typedef struct {
  float old[16], new[16];
  bool first[QUERY_BLOCK];
} joining;

INLINE void join_values(float *output, f32x16 sum, const joining *with, int query) {
  if (!with->first[query]) {
    sum = f_fma(f_load(output), f_set1(with->old[query]), f_mul(sum, f_set1(with->new[query])));
  }
  f_store(output, sum);
}

// Takes the maxima and sums of a tile into the queries' own.
INLINE joining join_sums(ck_query *queries, const float *maxima, const float *sums,
                         const int width) {
  joining with;
  float before[16] = {0}, after[16] = {0}, merged[16] = {0};
  for (int q = 0; q < width; q++) {
    before[q] = queries[q].maximum;
    after[q] = maxima[q];
  }
  f32x16 larger = f_max(f_load(before), f_load(after));
  f_store(merged, larger);
  f_store(with.old, f_exp(f_sub(f_load(before), larger)));
  f_store(with.new, f_exp(f_sub(f_load(after), larger)));
  for (int q = 0; q < width; q++) {
    ck_query *query = queries + q;
    with.first[q] = query->maximum == -__builtin_inff() && query->sum == 0;
    query->sum = with.first[q]
                     ? sums[q]
                     : __builtin_fmaf(query->sum, with.old[q], sums[q] * with.new[q]);
    query->maximum = merged[q];
  }
  return with;
}

static void merge(ck_query *queries, const ck_query *later, int64_t count, int64_t head_size) {
  for (int64_t q = 0; q < count; q++) {
    joining with = join_sums(queries + q, &later[q].maximum, &later[q].sum, 1);
    for (int64_t d = 0; d < head_size; d += 16) {
      join_values(queries[q].output + d, f_load(later[q].output + d), &with, 0);
    }
  }
}

// Turns the scores of one query into weights: exp(score - maximum), and 0 from `count` up to
// `groups` times sixteen.
static void softmax(float *scores, int64_t count, int64_t groups, float *maximum, float *sum) {
  int64_t used = (count + 15) / 16;
  for (int64_t p = count; p < used * 16; p++) scores[p] = -__builtin_inff();
  f32x16 largest = f_set1(-__builtin_inff());
  for (int64_t g = 0; g < used; g++) largest = f_max(f_load(scores + g * 16), largest);
  *maximum = f_maximum(largest);
  f32x16 lanes = f_set1(0);
  for (int64_t g = 0; g < used; g++) {
    f32x16 weight = f_exp(f_sub(f_load(scores + g * 16), f_set1(*maximum)));
    f_store(scores + g * 16, weight);
    if (g == used - 1) {
      // Again, because the difference of infinities is not a number.
      for (int64_t p = count; p < used * 16; p++) scores[p] = 0;
      weight = f_load(scores + g * 16);
    }
    lanes = f_add(lanes, weight);
  }
  for (int64_t g = used; g < groups; g++) f_store(scores + g * 16, f_set1(0));
  *sum = f_sum(lanes);
}

// Groups of sixteen positions, and of sixteen elements, that `width` queries go through at once.
#define SCORE_VECTORS(width) \
  (ATTENTION_SUMS / QUERY_BLOCK * (QUERY_BLOCK / (width) < 4 ? QUERY_BLOCK / (width) : 4))
#define VALUE_VECTORS(width) (ATTENTION_SUMS / (width) < 4 ? ATTENTION_SUMS / (width) : 4)

#include "attention_float.h"
#include "attention_int8.h"

INLINE void attend_block(const ck_cache_tile *tile, ck_query *queries, int64_t head_size,
                         float scale, const int type, const int width) {
  int64_t shortest = queries[0].count, longest = queries[width - 1].count;
  // Pairs of groups, as int8 weights are quantized.
  int64_t groups = (longest + 31) / 32 * 2;
  float weights[QUERY_BLOCK * TILE], maxima[QUERY_BLOCK], sums[QUERY_BLOCK];
  if (type == CK_CACHE_Q8) {
    score_int8(tile, queries, (longest + 15) / 16, head_size, scale, weights, width);
  } else {
    score_float(tile, queries, (longest + 15) / 16, head_size, scale, weights, type, width);
  }
  for (int q = 0; q < width; q++) {
    softmax(weights + q * TILE, queries[q].count, groups, maxima + q, sums + q);
  }
  joining with = join_sums(queries, maxima, sums, width);
  if (type == CK_CACHE_Q8) {
    weigh_int8(tile, queries, groups / 2, head_size, weights, &with, width);
  } else {
    weigh_float(tile, queries, shortest, head_size, weights, &with, type, width);
  }
}

INLINE void attend_typed(const ck_cache_tile *tile, ck_query *queries, int64_t count,
                         int64_t head_size, float scale, const int type) {
  while (count > 0) {
    int64_t width = QUERY_BLOCK;
    while (width > count) width /= 2;
    switch (width) {
      case 1: attend_block(tile, queries, head_size, scale, type, 1); break;
      case 2: attend_block(tile, queries, head_size, scale, type, 2); break;
      case 4: attend_block(tile, queries, head_size, scale, type, 4); break;
      default: attend_block(tile, queries, head_size, scale, type, QUERY_BLOCK); break;
    }
    queries += width;
    count -= width;
  }
}

static void attend(const ck_cache_tile *tile, int64_t position, ck_query *queries, int64_t count,
                   int64_t head_size, float scale) {
  for (; count > 0 && queries->positions <= position; count--) queries++;
  for (int64_t q = 0; q < count; q++) {
    int64_t left = queries[q].positions - position;
    queries[q].count = (int32_t)(left < TILE ? left : TILE);
  }
  switch (tile->type) {
    case CK_CACHE_F16: attend_typed(tile, queries, count, head_size, scale, CK_CACHE_F16); break;
    case CK_CACHE_Q8: attend_typed(tile, queries, count, head_size, scale, CK_CACHE_Q8); break;
    default: attend_typed(tile, queries, count, head_size, scale, CK_CACHE_F32); break;
  }
}
