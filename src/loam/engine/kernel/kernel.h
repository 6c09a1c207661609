/* The shapes that Python and C share (binding.py mirrors them field by field), and what the files offer each other. */
#ifndef LOAM_KERNEL_H
#define LOAM_KERNEL_H

#include <stdatomic.h>
#include "vectors.h"

#define PAGE 32   /* positions on a page of the cache: kvcache.PAGE */
#define BLOCK 32  /* outputs that lie together in a packed matrix */
#if defined(__AVX512F__)
#define TILE 12   /* rows that share one pass over a block: 12 * 2 sums and 2 weights fit 32 registers */
#else
#define TILE 4    /* a vector takes two registers of 16, or more */
#endif
#define QUERIES 4 /* queries that share one pass over keys and values */
#define ROPES 2
#define FEW 4     /* rows up to which each thread makes all of them ready for itself: a barrier costs more */
#define APART 4   /* threads up to which each also computes all of their A x for itself */
#define NOWHERE -1
#define TOGETHER (TILE / 3) /* rows of one adapter that share its loads: 16 sums and 4 weights in 32 registers */

/* A matrix (outputs, inputs), packed in blocks of 32 outputs; a block is one contiguous stream, read once a tile.
   INT8: (blocks, inputs / 4, 32, 4) bytes, each the weight plus 128, and one scale an output.
   BF16 and FP32: (blocks, inputs, 32). Missing outputs and inputs are zero. */
typedef struct {
    void *packed;
    float *scales;
    float *bias; /* of `outputs` numbers, or NULL */
    int32_t type, outputs, inputs, gated; /* gated: 16 gates, then the 16 ups they belong to, in each block */
} Matrix;

typedef struct {
    float *attention_norm, *mlp_norm, *query_norm, *key_norm, *attention_after, *mlp_after; /* gains, or NULL */
    Matrix qkv, out, up, down;
    int32_t window, rope; /* 0: sees everything; -1: not rotated */
} Layer;

typedef struct {
    int32_t layers, width, heads, kv_heads, head_width, hidden, vocabulary, activation;
    int32_t embedding_type, wide_norm, rope_width[ROPES]; /* wide_norm: queries and keys are normed over all heads */
    float norm_eps, embedding_scale, residual_scale, logit_scale, logit_softcap, attention_scale, attention_softcap;
    const float *cosines[ROPES], *sines[ROPES]; /* (positions, rope_width / 2) */
    const void *embedding; /* (vocabulary, width) */
    const float *final_norm;
    Matrix head;
    Layer *layer;
} Model;

/* What an adapter adds to one matrix. Its parts (queries, keys, values) have their ranks below each other in `down`. */
typedef struct {
    const void *down;      /* (ranks / 16, inputs, 16) */
    const void *up;        /* for each half block of 16 outputs (its part's ranks, 16), the scale in it */
    const int64_t *halves; /* (half blocks, 3): where it begins in `up`, its part's first rank, and how many */
    int32_t type, ranks;   /* FP32 or BF16; rounded up to 16, and 0 where the matrix is not adapted */
} LowRank;
enum { QKV, OUT, UP, DOWN, PLACES }; /* a layer's matrices: place `where` = PLACES * layer + one of them */

typedef struct {
    int32_t rows, spans, wanted, cache_type;
    const int32_t *tokens, *starts, *counts, *first_page, *pages, *wanted_rows;
    void *keys, *values;
    int64_t layer_stride, page_stride; /* in numbers; a key head's stride on a page is PAGE * head_width */
    float *logits;                     /* (wanted, vocabulary) */
    const int32_t *adapters;           /* of each span its place in `lows`, or -1; NULL where no span has one */
    const LowRank *const *lows;        /* (adapters) of (layers * PLACES) */
    int64_t ranks;                     /* the most that one matrix has */
} Step;

typedef struct Pool Pool;

/* What a step works on; lives in memory that grows to the largest step. */
typedef struct {
    const Model *model;
    const Step *step;
    Pool *pool;
    atomic_int *counters; /* (threads, phases): one a phase, and one a thread where each begins with its own share */
    int32_t phases;       /* a thread's counters, rounded up to whole cache lines */
    int32_t few, single;  /* no more than FEW rows; every span has one row, so nobody waits for another's keys */
    int32_t each;         /* rows that one thread makes ready at a time */
    int32_t parted;       /* few rows, but many threads: they share A x, and wait for each other */
    int32_t *position, *span_of;
    int32_t *adapter;     /* of each row, or -1; NULL where no row has one, and then nothing below is there */
    float *lowered;       /* (rows, ranks): A x of the matrix at hand; few rows are there once a thread */
    float *normed;        /* (threads, TOGETHER, longest row) */
    int64_t *first_item;  /* where a span's attention items begin */
    int32_t longest;      /* positions of the longest sequence, rounded up to whole pages */
    float *x, *delta;     /* (rows, width): the residual stream, and what is normed before it joins */
    float *qkv, *mixed, *hidden; /* (rows, (heads + 2 kv_heads) head_width), (rows, heads head_width), (rows, hidden) */
    int8_t *bytes;        /* activations as a matrix reads them: int8 or fp32; few rows are there once a thread */
    float *row_scale;
    int32_t *row_sum;
    float *scores;        /* (threads, QUERIES, longest) */
} Work;

typedef struct {
    Work work;
    size_t room;
    char *memory;
} Runner;

typedef void (*Job)(void *context, int thread);
Pool *pool_new(int threads);
void pool_run(Pool *pool, Job job, void *context);
/* A barrier between phases. Who waits fetches what it reads next meanwhile: `soon`, so many `bytes`. */
void pool_wait(Pool *pool, const char *soon, int64_t bytes);
int pool_threads(const Pool *pool);
void pool_free(Pool *pool);

enum { STORE, ADD, GATE };
typedef struct {
    const Matrix *matrix;
    float *out;         /* (rows, stride) */
    int64_t stride;
    int32_t rows, into; /* STORE: out = y; ADD: out += scale * y; GATE: out = activation(gate) * up */
    int32_t activation, where; /* NOWHERE: no adapter reaches this matrix */
    float scale, softcap;
} Product;
int64_t row_bytes(const Matrix *matrix);
void prepare_row(const Work *work, const Matrix *matrix, int row, float *x, const float *gain);
void lower_rows(const Work *work, int where, int thread, int row, int count, int inputs, const float *from,
                const float *gain);
void raise_rows(const Work *work, int where, int block, int row, int count, vec added[][2]);
void multiply(const Work *work, const Product *product, int thread, atomic_int *counter);
const char *share_of(const Matrix *matrix, int thread, int threads, int64_t *bytes);

void place_head(const Work *work, int layer, int row, int head);
void attend(const Work *work, int layer, int thread, atomic_int *counter);
int64_t attention_items(const Model *model, int32_t count);

#endif
