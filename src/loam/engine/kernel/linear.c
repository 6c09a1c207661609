/* y = W x for many rows: weights are packed once, then each block of 32 outputs streams past tiles of up to 12 rows.

   Invariant (P9): a row's arithmetic is the same in every tile. INT8 sums are exact; BF16 and FP32 sums run over the
   inputs in order, one chain an output. So batch, chunk and thread count change no bit. */
#include <math.h>
#include <stdlib.h>
#include "kernel.h"

#define AHEAD 4096 /* bytes of weights fetched ahead: some 100 ns of memory latency at 30 GB/s a core */

/* ---- packing ---- */

/* Where an output stands: in a gated matrix outputs 0 .. n/2 are gates and go to the first half of each block. */
static int place_of(const Matrix *m, int output) {
    int half = m->outputs / 2, up = output >= half, index = output - up * half;
    return m->gated ? index / LANES * BLOCK + up * LANES + index % LANES : output;
}

/* Sixteen numbers from `index` on, of which the first `count` are there and the others 0. */
static vec source(int type, const void *data, int64_t index, int count) {
    char few[4 * LANES] = {0};
    int size = type == FP32 ? 4 : 2;
    if (count >= LANES) return load_as(type, data, index);
    memcpy(few, (const char *)data + index * size, (size_t)(size * count));
    return load_as(type, few, 0);
}

/* One output's weights, `data` + row * inputs on, to whole numbers -127..127 and their scale, max |w| / 127. */
static float quantize(int type, const void *data, int64_t first, int inputs, int8_t *to) {
    vec high = all(0), magic = all(12582912.0f);
    for (int k = 0; k < inputs; k += LANES) {
        vec v = source(type, data, first + k, inputs - k);
        high = larger(high, larger(v, -v));
    }
    float most = largest(high);
    vec inverse = all(most > 0 ? 127 / most : 0);
    for (int k = 0; k < inputs; k += LANES) {
        bytes b = __builtin_convertvector(
            (ivec)(source(type, data, first + k, inputs - k) * inverse + magic) - all_int(0x4b400000), bytes);
        memcpy(to + k, &b, sizeof b);
    }
    return most / 127;
}

/* One output to its place in the packed matrix; `room` holds its bytes. An INT8 source keeps its bytes and scale. */
static void pack_row(const Matrix *m, int at, int type, const void *data, const float *scales, int64_t row, int8_t *room) {
    int64_t inputs = m->inputs, fours = (inputs + 3) / 4, block = at / BLOCK, lane = at % BLOCK, first = row * inputs;
    if (m->type == INT8) {
        uint32_t *to = (uint32_t *)m->packed + block * BLOCK * fours + lane, four;
        if (type == INT8) memcpy(room, (const int8_t *)data + first, (size_t)inputs);
        m->scales[at] = type == INT8 ? scales[row] : quantize(type, data, first, m->inputs, room);
        for (int64_t k = inputs; k < 4 * fours; k++) room[k] = 0;
        for (int64_t k = 0; k < fours; k++) {
            memcpy(&four, room + 4 * k, 4);
            to[k * BLOCK] = four ^ 0x80808080; /* plus 128, in each byte */
        }
        return;
    }
    for (int64_t k = 0; k < inputs; k++) {
        float value = type == INT8 ? ((const int8_t *)data)[first + k] * scales[row] : source(type, data, first + k, 1)[0];
        store_as(m->type, m->packed, (block * inputs + k) * BLOCK + lane, value);
    }
}

typedef struct {
    const Matrix *matrix;
    int32_t type, rows, at, threads;
    const void *data;
    const float *scales;
} Packing;

static void pack_share(void *context, int thread) {
    const Packing *p = context;
    int8_t *room = malloc((size_t)p->matrix->inputs + 2 * LANES);
    /* whole runs of 16 rows a thread, so that two threads seldom write to one line */
    for (int row = 0; row < p->rows; row++)
        if (row / 16 % p->threads == thread) pack_row(p->matrix, place_of(p->matrix, p->at + row), p->type, p->data, p->scales, row, room);
    free(room);
}

/* `rows` outputs of a matrix, from `at` on, out of a plain (rows, inputs) array of any type. */
void loam_pack(Runner *runner, const Matrix *matrix, int32_t at, int32_t rows, int32_t type, const void *data,
               const float *scales) {
    Pool *pool = runner->work.pool;
    Packing packing = {matrix, type, rows, at, pool_threads(pool), data, scales};
    pool_run(pool, pack_share, &packing);
}

/* ---- activations ---- */

int64_t row_bytes(const Matrix *m) { /* room for one row, with a line to spare against aliasing */
    int64_t inputs = (m->inputs + 63) / 64 * 64;
    return (m->type == INT8 ? inputs : 4 * inputs) + 64;
}

/* RMSNorm in place of `gain` != NULL (Zhang and Sennrich 2019), then the row as the matrix reads it: for INT8, whole
   numbers with scale max |x| / 127, their scale and their sum (which takes back the 128 that the weights carry). */
void prepare_row(const Work *w, const Matrix *m, int row, float *x, const float *gain) {
    int n = m->inputs, whole = n / LANES * LANES;
    float factor = 1, most;
    int8_t *to = w->bytes + row * row_bytes(m);
    float *out = (float *)(void *)to, buffer[LANES] = {0};
    if (gain) {
        vec squares = all(0);
        for (int i = 0; i < whole; i += LANES) squares += load(x + i) * load(x + i);
        float total = sum(squares);
        for (int i = whole; i < n; i++) total += x[i] * x[i];
        factor = 1 / sqrtf(total / n + w->model->norm_eps);
    }
    vec high = all(0);
    if (m->type != INT8) {
        for (int i = 0; i < n; i++) out[i] = gain ? x[i] * factor * gain[i] : x[i];
        return;
    }
#define NORMED(i) (gain ? load(x + (i)) * all(factor) * load(gain + (i)) : load(x + (i)))
    for (int i = 0; i < whole; i += LANES) {
        vec v = NORMED(i);
        high = larger(high, larger(v, -v));
    }
    for (int i = whole; i < n; i++) buffer[i - whole] = gain ? x[i] * factor * gain[i] : x[i];
    vec rest = load(buffer);
    most = largest(larger(high, larger(rest, -rest)));
    vec inverse = all(most > 0 ? 127 / most : 0), magic = all(12582912.0f);
    ivec total = all_int(0);
    for (int i = 0; i < n; i += LANES) {
        vec v = i < whole ? NORMED(i) : rest;
        ivec q = (ivec)(v * inverse + magic) - all_int(0x4b400000); /* to the nearest whole number */
        bytes b = __builtin_convertvector(q, bytes);
        memcpy(to + i, &b, sizeof b);
        total += q;
    }
    int32_t lanes[LANES], together = 0;
    memcpy(lanes, &total, sizeof lanes);
    for (int l = 0; l < LANES; l++) together += lanes[l];
    w->row_scale[row] = most / 127;
    w->row_sum[row] = together;
}

/* ---- tiles ---- */

typedef union { ivec whole; vec real; } Sum;

/* Sums of R rows over one block; R is a constant wherever this is inlined, so they all stay in registers. */
static INLINE void tile_int8(const int R, const uint8_t *w, const int8_t *x, int64_t stride, int inputs, Sum sums[][2]) {
    ivec acc[TILE][2];
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = all_int(0);
    for (int k = 0; k < inputs; k += 4, w += 4 * BLOCK) {
        ivec a = load_int(w), b = load_int(w + 64);
        __builtin_prefetch(w + AHEAD, 0, 2);
        __builtin_prefetch(w + AHEAD + 64, 0, 2);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            int32_t four;
            memcpy(&four, x + r * stride + k, 4);
            acc[r][0] = dot4(acc[r][0], a, four);
            acc[r][1] = dot4(acc[r][1], b, four);
        }
    }
    for (int r = 0; r < R; r++) sums[r][0].whole = acc[r][0], sums[r][1].whole = acc[r][1];
}

static INLINE void tile_real(const int R, int type, const char *w, const float *x, int64_t stride, int inputs,
                             Sum sums[][2]) {
    vec acc[TILE][2];
    const int size = type == FP32 ? 4 : 2;
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = all(0);
    for (int k = 0; k < inputs; k++, w += size * BLOCK) {
        vec a = load_as(type, w, 0), b = load_as(type, w, 16);
        for (int line = 0; line < size / 2; line++) __builtin_prefetch(w + AHEAD + 64 * line, 0, 2);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            vec one = all(x[r * stride + k]);
            acc[r][0] += a * one;
            acc[r][1] += b * one;
        }
    }
    for (int r = 0; r < R; r++) sums[r][0].real = acc[r][0], sums[r][1].real = acc[r][1];
}

static INLINE void tile(const int R, const Matrix *m, int64_t block, const int8_t *rows, Sum sums[][2]) {
    int64_t inputs = m->inputs, stride = row_bytes(m), fours = (inputs + 3) / 4;
    const float *reals = (const float *)(const void *)rows;
    const char *packed = m->packed;
    if (m->type == INT8)
        tile_int8(R, (const uint8_t *)packed + 4 * block * BLOCK * fours, rows, stride, (int)(4 * fours), sums);
    else if (m->type == BF16)
        tile_real(R, BF16, packed + 2 * block * BLOCK * inputs, reals, stride / 4, (int)inputs, sums);
    else
        tile_real(R, FP32, packed + 4 * block * BLOCK * inputs, reals, stride / 4, (int)inputs, sums);
}

/* ---- what becomes of the sums ---- */

static INLINE vec activated(int activation, vec g) {
    if (activation == 0) return g / (all(1) + exponential(-g)); /* SiLU */
    vec inner = all(0.7978845608028654f) * (g + all(0.044715f) * g * g * g); /* GELU by tanh */
    return g / (all(1) + exponential(all(-2) * inner));
}

static void finish(const Work *w, const Product *p, int block, int row, const Sum sums[2], const vec *added) {
    const Matrix *m = p->matrix;
    vec y[2];
    for (int v = 0; v < 2; v++) {
        int at = block * BLOCK + v * LANES;
        y[v] = sums[v].real;
        if (m->type == INT8)
            y[v] = __builtin_convertvector(sums[v].whole - all_int(128 * w->row_sum[row]), vec) *
                   all(w->row_scale[row]) * load(m->scales + at);
        if (m->bias) y[v] += load(m->bias + at);
    }
    if (added) y[0] += added[0], y[1] += added[1];
    int wide = BLOCK;
    if (p->into == GATE) {
        wide = LANES;
        y[0] = activated(p->activation, y[0]) * y[1];
    }
    int64_t outputs = p->into == GATE ? m->outputs / 2 : m->outputs, first = (int64_t)block * wide;
    float *out = p->out + row * p->stride + first, kept[BLOCK];
    int count = outputs - first < wide ? (int)(outputs - first) : wide;
    memcpy(kept, y, sizeof kept);
    if (p->into == ADD)
        for (int i = 0; i < count; i++) out[i] += p->scale * kept[i];
    else if (p->into == GATE)
        memcpy(out, kept, sizeof(float) * (size_t)count);
    else {
        for (int i = 0; i < count; i++) out[i] = p->scale * kept[i];
        for (int i = 0; p->softcap > 0 && i < count; i++) out[i] = p->softcap * tanhf(out[i] / p->softcap);
    }
}

static void one_block(const Work *w, const Product *p, int block) {
    const Matrix *m = p->matrix;
    int64_t stride = row_bytes(m);
    int tiles = (p->rows + TILE - 1) / TILE, height = tiles ? (p->rows + tiles - 1) / tiles : 0; /* 16 rows: 8 and 8 */
    for (int row = 0; row < p->rows; row += height) {
        int count = p->rows - row < height ? p->rows - row : height;
        const int8_t *rows = w->bytes + row * stride;
        Sum sums[TILE][2];
        switch (count) {
#define OF(R) case R: tile(R, m, block, rows, sums); break
            OF(1); OF(2); OF(3); OF(4);
#if TILE > 4
            OF(5); OF(6); OF(7); OF(8); OF(9); OF(10); OF(11); OF(12);
#endif
        }
        vec added[TILE][2];
        int adapted = w->adapter && p->where != NOWHERE;
        if (adapted) raise_rows(w, p->where, block, row, count, added);
        for (int r = 0; r < count; r++)
            finish(w, p, block, row + r, sums[r], adapted && w->adapter[row + r] >= 0 ? added[r] : NULL);
    }
}

/* A thread's own blocks are neighbours, so that it reads one stretch of memory: what it fetches ahead is its own. */
static int first_block(const Matrix *m, int thread, int threads) {
    return (int)((int64_t)((m->outputs + BLOCK - 1) / BLOCK) * thread / threads);
}

const char *share_of(const Matrix *m, int thread, int threads, int64_t *bytes) {
    int64_t inputs = m->inputs, each = m->type == INT8 ? (inputs + 3) / 4 * 4 : (m->type == BF16 ? 2 : 4) * inputs;
    int64_t a_block = BLOCK * each;
    int first = first_block(m, thread, threads);
    *bytes = a_block * (first_block(m, thread + 1, threads) - first);
    return (const char *)m->packed + a_block * first;
}

/* Every thread calls this once; each takes its own blocks, and then what others have not come to. */
void multiply(const Work *w, const Product *p, int thread, atomic_int *counter) {
    int threads = pool_threads(w->pool);
    for (int i = 0; i < threads; i++) {
        int whose = (thread + i) % threads, first = first_block(p->matrix, whose, threads);
        int count = first_block(p->matrix, whose + 1, threads) - first, taken;
        atomic_int *next = counter + whose * w->phases;
        if (i && atomic_load_explicit(next, memory_order_relaxed) >= count) continue;
        while ((taken = atomic_fetch_add_explicit(next, 1, memory_order_relaxed)) < count)
            one_block(w, p, first + taken);
    }
}
