/* y += B (A x) for the rows that have a low-rank adapter (Hu et al. 2021), each row its own.

   Neighbours with the same adapter share its loads, up to TOGETHER of them. Invariant (P9): a row's A x is four chains
   of sums over the inputs, B's part two over the ranks, whatever the batch and whoever computes them. A row without an
   adapter is never touched. */
#include <math.h>
#include "kernel.h"

static const LowRank *low_of(const Work *w, int where, int row) {
    int adapter = w->adapter[row];
    return adapter < 0 || !w->step->lows[adapter][where].ranks ? NULL : &w->step->lows[adapter][where];
}

/* How many rows from `row` on, of `count`, have its adapter and can be computed together. */
static int run_of(const Work *w, int row, int count) {
    int run = 1;
    while (run < count && run < TOGETHER && w->adapter[row + run] == w->adapter[row]) run++;
    return run;
}

/* Sixteen ranks of A x of R rows; R and `type` are constants wherever this is inlined. */
static INLINE void lower(const int R, const int type, const void *down, int64_t at, const float *const *x, int inputs,
                         float *const *to) {
    vec acc[TOGETHER][4];
    int k = 0;
    for (int r = 0; r < R; r++)
        for (int j = 0; j < 4; j++) acc[r][j] = all(0);
    for (; k + 4 <= inputs; k += 4)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vec a = load_as(type, down, at + (int64_t)(k + j) * LANES);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) acc[r][j] += a * all(x[r][k + j]);
        }
    for (int j = 0; k < inputs; k++, j++)
        for (int r = 0; r < R; r++) acc[r][j] += load_as(type, down, at + (int64_t)k * LANES) * all(x[r][k]);
    for (int r = 0; r < R; r++) store(to[r], (acc[r][0] + acc[r][1]) + (acc[r][2] + acc[r][3]));
}

/* Sixteen outputs of B y of R rows, added up in `sums`. */
static INLINE void raise(const int R, const int type, const LowRank *low, const int64_t *half, const float *lowered,
                         int64_t stride, vec sums[][2], int v) {
    vec acc[TOGETHER][2];
    const float *from = lowered + half[1];
    int64_t at = half[0], ranks = half[2], k = 0;
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = all(0);
    for (; k + 2 <= ranks; k += 2)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            vec b = load_as(type, low->up, at + (k + j) * LANES);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) acc[r][j] += b * all(from[r * stride + k + j]);
        }
    if (k < ranks)
        for (int r = 0; r < R; r++) acc[r][0] += load_as(type, low->up, at + k * LANES) * all(from[r * stride + k]);
    for (int r = 0; r < R; r++) sums[r][v] = acc[r][0] + acc[r][1];
}

/* The constants: how many rows, and of which type. */
#if TOGETHER > 1
#define FOR_EACH_RUN(run, type, CALL) \
    switch ((run) + (type) * 8) { \
    case 1 + FP32 * 8: CALL(1, FP32); break; case 1 + BF16 * 8: CALL(1, BF16); break; \
    case 2 + FP32 * 8: CALL(2, FP32); break; case 2 + BF16 * 8: CALL(2, BF16); break; \
    case 3 + FP32 * 8: CALL(3, FP32); break; case 3 + BF16 * 8: CALL(3, BF16); break; \
    case 4 + FP32 * 8: CALL(4, FP32); break; case 4 + BF16 * 8: CALL(4, BF16); break; \
    }
#else
#define FOR_EACH_RUN(run, type, CALL) \
    if ((type) == BF16) CALL(1, BF16); \
    else CALL(1, FP32)
#endif

static const float *normed(const Work *w, const float *x, int inputs, const float *gain, float *to) {
    if (!gain) return x;
    float rest = 0;
    vec squares = all(0);
    int whole = inputs / LANES * LANES;
    for (int i = 0; i < whole; i += LANES) squares += load(x + i) * load(x + i);
    for (int i = whole; i < inputs; i++) rest += x[i] * x[i];
    float factor = 1 / sqrtf((sum(squares) + rest) / (float)inputs + w->model->norm_eps);
    for (int i = 0; i < inputs; i++) to[i] = x[i] * factor * gain[i];
    return to;
}

/* A x of `count` rows (rows, inputs) from `row` on, each normed by `gain` or as it is: all ranks, or where threads
   share a row's ranks, this thread's. */
void lower_rows(const Work *w, int where, int thread, int row, int count, int inputs, const float *from,
                const float *gain) {
    int threads = pool_threads(w->pool);
    for (int end = row + count, run; row < end; row += run) {
        const LowRank *low = low_of(w, where, row);
        const float *x[TOGETHER];
        float *to[TOGETHER];
        run = run_of(w, row, end - row);
        if (!low) continue;
        for (int r = 0; r < run; r++) {
            int64_t one = row + r;
            x[r] = normed(w, from + one * inputs, inputs, gain, w->normed + (int64_t)r * inputs);
            to[r] = w->lowered + one * w->step->ranks;
        }
        for (int c = 0; c < low->ranks / LANES; c++) {
            if (!w->parted || (row + c) % threads == thread) {
                int64_t at = (int64_t)c * inputs * LANES;
#define LOWER(R, T) lower(R, T, low->down, at, x, inputs, to)
                FOR_EACH_RUN(run, low->type, LOWER);
            }
            for (int r = 0; r < run; r++) to[r] += LANES;
        }
    }
}

/* What adapters add to the 32 outputs of a block in `count` rows from `row` on: 0 where they add nothing. */
void raise_rows(const Work *w, int where, int block, int row, int count, vec added[][2]) {
    int64_t stride = w->step->ranks;
    for (int end = row + count, run; row < end; row += run, added += run) {
        const LowRank *low = low_of(w, where, row);
        const float *lowered = w->lowered + row * stride;
        run = run_of(w, row, end - row);
        for (int v = 0; v < 2; v++) {
            const int64_t *half = low ? low->halves + 3 * (2 * (int64_t)block + v) : NULL;
            for (int r = 0; r < run; r++) added[r][v] = all(0);
            if (!half || !half[2]) continue;
#define RAISE(R, T) raise(R, T, low, half, lowered, stride, added, v)
            FOR_EACH_RUN(run, low->type, RAISE);
        }
    }
}
