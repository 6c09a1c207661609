/* Attention over the paged cache, four queries of one key head at a time.

   A tile is up to QUERIES queries that read the same keys: neighbouring rows of a span and the query heads of a group.
   Scores, softmax, weighted values: three passes over scores that stay in the cache nearest the core, as FlashAttention
   would for one block. Invariant (P9): a query's sums run over positions in order, each dot product in the order of
   sums16; a tile's other queries only add exact zeros. */
#include <math.h>
#include "kernel.h"

typedef struct {
    const Model *model;
    const float *query[QUERIES]; /* head_width numbers each */
    float *out[QUERIES];
    int32_t low[QUERIES], high[QUERIES]; /* the positions each query sees: low .. high, not included */
    int32_t from, to;                    /* and all of them together */
    const int32_t *pages;
    const void *keys, *values; /* of this layer and key head, page 0 */
    int64_t page_stride;
    float *scores; /* (QUERIES, longest) */
    int32_t longest;
} Tile;

/* scores[q][position] for all positions of the pages that hold from .. to. Q * J = 16 dot products at a time. */
static INLINE void score(const int Q, const int type, const Tile *t) {
    const int J = LANES / Q, width = t->model->head_width;
    const float cap = t->model->attention_softcap;
    for (int at = t->from / PAGE * PAGE; at < t->to; at += J) {
        int64_t first = t->pages[at / PAGE] * t->page_stride + (int64_t)(at % PAGE) * width;
        vec acc[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) acc[i] = all(0);
        for (int c = 0; c < width; c += LANES) {
            vec query[QUERIES];
#pragma GCC unroll 4
            for (int q = 0; q < Q; q++) query[q] = load(t->query[q] + c);
#pragma GCC unroll 16
            for (int j = 0; j < J; j++) {
                vec key = load_as(type, t->keys, first + (int64_t)j * width + c);
#pragma GCC unroll 4
                for (int q = 0; q < Q; q++) acc[q * J + j] += query[q] * key;
            }
        }
        float kept[LANES];
        store(kept, sums16(acc) * all(t->model->attention_scale));
        for (int i = 0; cap > 0 && i < LANES; i++) kept[i] = cap * tanhf(kept[i] / cap);
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++) memcpy(t->scores + (int64_t)q * t->longest + at, kept + q * J, 4 * (size_t)J);
    }
}

/* exp(score - largest) in place, zero where the query does not see; returns 1 / their sum. */
static float soften(const Tile *t, int q) {
    float *s = t->scores + (int64_t)q * t->longest;
    int begin = t->from / PAGE * PAGE;
    ivec low = all_int(t->low[q]), high = all_int(t->high[q]);
    vec most = all(-INFINITY), total = all(0);
    for (int at = begin; at < t->to; at += LANES) {
        ivec position = counting(at), seen = (position >= low) & (position < high);
        vec v = choose(seen, load(s + at), all(-INFINITY));
        store(s + at, v);
        most = larger(most, v);
    }
    vec shift = all(largest(most));
    for (int at = begin; at < t->to; at += LANES) {
        ivec position = counting(at), seen = (position >= low) & (position < high);
        vec p = choose(seen, exponential(load(s + at) - shift), all(0));
        store(s + at, p);
        total += p;
    }
    return 1 / sum(total);
}

/* out[q] = sum of probability * value, C vectors of the head's width at a time, from vector `c` on. */
static INLINE void weigh(const int Q, const int C, const int type, const Tile *t, int c, const float *inverse) {
    const int width = t->model->head_width;
    vec acc[QUERIES][4];
    for (int q = 0; q < Q; q++)
        for (int v = 0; v < C; v++) acc[q][v] = all(0);
    for (int at = t->from; at < t->to;) {
        int end = (at / PAGE + 1) * PAGE;
        int64_t first = t->pages[at / PAGE] * t->page_stride + (int64_t)(at % PAGE) * width + c * LANES;
        if (end > t->to) end = t->to;
        for (; at < end; at++, first += width) {
            vec value[4];
#pragma GCC unroll 4
            for (int v = 0; v < C; v++) value[v] = load_as(type, t->values, first + v * LANES);
#pragma GCC unroll 4
            for (int q = 0; q < Q; q++) {
                vec p = all(t->scores[(int64_t)q * t->longest + at]);
#pragma GCC unroll 4
                for (int v = 0; v < C; v++) acc[q][v] += p * value[v];
            }
        }
    }
    for (int q = 0; q < Q; q++)
        for (int v = 0; v < C; v++) store(t->out[q] + (c + v) * LANES, acc[q][v] * all(inverse[q]));
}

static INLINE void tile_of(const int Q, const int type, const Tile *t) {
    float inverse[QUERIES];
    int vectors = t->model->head_width / LANES, c = 0;
    score(Q, type, t);
    for (int q = 0; q < Q; q++) inverse[q] = soften(t, q);
    for (; c + 4 <= vectors; c += 4) weigh(Q, 4, type, t, c, inverse);
    for (; c < vectors; c++) weigh(Q, 1, type, t, c, inverse);
}

#define BY_QUERIES(name, type)                                \
    static void name(int queries, const Tile *t) {            \
        switch (queries) {                                    \
        case 1: tile_of(1, type, t); break;                   \
        case 2: tile_of(2, type, t); break;                   \
        default: tile_of(4, type, t); /* 3 repeat their last */ \
        }                                                     \
    }
BY_QUERIES(tile_fp32, FP32)
BY_QUERIES(tile_bf16, BF16)
BY_QUERIES(tile_fp16, FP16)

static int64_t tiles(const Model *m, int32_t count) {
    return ((int64_t)count * (m->heads / m->kv_heads) + QUERIES - 1) / QUERIES;
}

/* How many items a span of `count` rows gives. */
int64_t attention_items(const Model *m, int32_t count) { return tiles(m, count) * m->kv_heads; }

static void one_item(const Work *w, int layer, int thread, int span, int64_t item) {
    const Model *m = w->model;
    const Step *s = w->step;
    int32_t count = s->counts[span], group = m->heads / m->kv_heads, width = m->head_width, window = m->layer[layer].window;
    int64_t per_head = tiles(m, count), head = item / per_head, first = item % per_head * QUERIES;
    int64_t qkv = (int64_t)(m->heads + 2 * m->kv_heads) * width, offset = layer * s->layer_stride + head * PAGE * width;
    int bytes = s->cache_type == FP32 ? 4 : 2, row0 = s->starts[span], queries = 0;
    Tile t = {.model = m, .pages = s->pages + s->first_page[span], .page_stride = s->page_stride, .longest = w->longest};
    t.keys = (const char *)s->keys + offset * bytes;
    t.values = (const char *)s->values + offset * bytes;
    t.scores = w->scores + (int64_t)thread * QUERIES * w->longest;
    t.from = INT32_MAX;
    int base = 0;
    for (int i = 0; i < span; i++) base += s->counts[i];
    for (int q = 0; q < QUERIES; q++) {
        int64_t index = first + q, last = (int64_t)count * group - 1;
        if (index > last) index = last; /* a tile that is not full repeats its last query */
        else queries++;
        int row = (int)(index / group), query_head = (int)(head * group + index % group);
        t.query[q] = w->qkv + (base + row) * qkv + (int64_t)query_head * width;
        t.out[q] = w->mixed + ((int64_t)(base + row) * m->heads + query_head) * width;
        t.high[q] = row0 + row + 1;
        t.low[q] = window && t.high[q] > window ? t.high[q] - window : 0;
        t.from = t.low[q] < t.from ? t.low[q] : t.from;
        t.to = t.high[q] > t.to ? t.high[q] : t.to;
    }
    if (s->cache_type == FP32) tile_fp32(queries, &t);
    else if (s->cache_type == BF16) tile_bf16(queries, &t);
    else tile_fp16(queries, &t);
}

/* Where every span has one row, an item is a key head of a row, which is placed here: nobody else reads it. */
static void attend_single(const Work *w, int layer, int thread, atomic_int *counter) {
    const int heads = w->model->kv_heads, items = w->step->rows * heads;
    int64_t per_head = tiles(w->model, 1);
    for (int item; (item = atomic_fetch_add_explicit(counter, 1, memory_order_relaxed)) < items;) {
        int row = item / heads, head = item % heads;
        place_head(w, layer, row, head);
        for (int64_t tile = 0; tile < per_head; tile++) one_item(w, layer, thread, row, head * per_head + tile);
    }
}

void attend(const Work *w, int layer, int thread, atomic_int *counter) {
    const Step *s = w->step;
    if (w->single) {
        attend_single(w, layer, thread, counter);
        return;
    }
    int64_t items = w->first_item[s->spans], item;
    int span = 0;
    while ((item = atomic_fetch_add_explicit(counter, 1, memory_order_relaxed)) < items) {
        while (item >= w->first_item[span + 1]) span++;
        one_item(w, layer, thread, span, item - w->first_item[span]);
    }
}
