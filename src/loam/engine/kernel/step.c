/* One step of a decoder: tokens in, logits out, in one parallel region with a barrier between phases.

   Every thread runs `decode`; within a phase rows, blocks or tiles are taken one by one as threads become free.
   Invariant: what a phase reads was finished before the last barrier. */
#include <math.h>
#include <stdlib.h>
#include "kernel.h"

enum { PHASES = 10, EXTRA = 4 }; /* a layer's counters, and those before and after the layers */
#define SOON (32 << 10) /* bytes of its share of the next matrix that a waiting thread fetches */

static float embedding_at(const Model *m, int64_t index) {
    if (m->embedding_type == FP32) return ((const float *)m->embedding)[index];
    uint16_t half = ((const uint16_t *)m->embedding)[index];
    if (m->embedding_type == FP16) return half_float(half);
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static void begin_row(Work *w, int row) {
    const Model *m = w->model;
    int64_t token = w->step->tokens[row];
    float *x = w->x + (int64_t)row * m->width;
    for (int i = 0; i < m->width; i++) x[i] = m->embedding_scale * embedding_at(m, token * m->width + i);
}

static void norm(const Model *m, float *x, int width, const float *gain) {
    float squares = 0;
    for (int i = 0; i < width; i++) squares += x[i] * x[i];
    float factor = 1 / sqrtf(squares / (float)width + m->norm_eps);
    for (int i = 0; i < width; i++) x[i] = x[i] * factor * gain[i];
}

/* Number i turns with number i + width / 2: the convention of Hugging Face's checkpoints. */
static void turn(float *x, int width, const float *cosines, const float *sines) {
    for (int i = 0; i < width / 2; i++) {
        float a = x[i], b = x[i + width / 2];
        x[i] = a * cosines[i] - b * sines[i];
        x[i + width / 2] = b * cosines[i] + a * sines[i];
    }
}

/* Norms and turns the queries and the key of a row's key head, and writes its key and value into the cache. */
void place_head(const Work *w, int layer, int row, int head) {
    const Model *m = w->model;
    const Step *s = w->step;
    const Layer *l = &m->layer[layer];
    int width = m->head_width, position = w->position[row], group = m->heads / m->kv_heads;
    float *qkv = w->qkv + (int64_t)row * (m->heads + 2 * m->kv_heads) * width;
    float *key = qkv + (m->heads + head) * width, *value = key + m->kv_heads * width;
    for (int i = 0; i <= group; i++) {
        float *x = i < group ? qkv + (head * group + i) * width : key;
        const float *gain = i < group ? l->query_norm : l->key_norm;
        if (gain && !m->wide_norm) norm(m, x, width, gain);
        if (l->rope >= 0) {
            int64_t at = (int64_t)position * (m->rope_width[l->rope] / 2);
            turn(x, m->rope_width[l->rope], m->cosines[l->rope] + at, m->sines[l->rope] + at);
        }
    }
    int page = s->pages[s->first_page[w->span_of[row]] + position / PAGE];
    int64_t at = layer * s->layer_stride + page * s->page_stride + ((int64_t)head * PAGE + position % PAGE) * width;
    for (int i = 0; i < width; i += LANES) {
        store_vec_as(s->cache_type, s->keys, at + i, load(key + i));
        store_vec_as(s->cache_type, s->values, at + i, load(value + i));
    }
}

static void place_row(const Work *w, int layer, int row) {
    const Model *m = w->model;
    const Layer *l = &m->layer[layer];
    int width = m->head_width;
    float *qkv = w->qkv + (int64_t)row * (m->heads + 2 * m->kv_heads) * width;
    if (m->wide_norm) {
        norm(m, qkv, m->heads * width, l->query_norm);
        norm(m, qkv + m->heads * width, m->kv_heads * width, l->key_norm);
    }
    for (int h = 0; h < m->kv_heads; h++) place_head(w, layer, row, h);
}

#define EACH(i, counter, count) \
    for (int i; (i = atomic_fetch_add_explicit(counter, 1, memory_order_relaxed)) < (count);)

/* x += scale * norm(delta), for families that norm what they add (Gemma 2, OLMo 2). */
static void add_normed(Work *w, int row, const float *gain) {
    const Model *m = w->model;
    float *delta = w->delta + (int64_t)row * m->width, *x = w->x + (int64_t)row * m->width;
    norm(m, delta, m->width, gain);
    for (int i = 0; i < m->width; i++) x[i] += m->residual_scale * delta[i];
}

/* A barrier; a thread that comes early fetches its share of `next`. */
static void wait(const Work *w, int thread, const Matrix *next) {
    int64_t bytes;
    const char *soon = share_of(next, thread, pool_threads(w->pool), &bytes);
    pool_wait(w->pool, soon, bytes < SOON ? bytes : SOON);
}

static const Matrix *matrix_at(const Model *m, int where) {
    const Layer *l = &m->layer[where / PLACES];
    const Matrix *each[PLACES] = {[QKV] = &l->qkv, [OUT] = &l->out, [UP] = &l->up, [DOWN] = &l->down};
    return each[where % PLACES];
}

/* Rows of (rows, stride) at `from`, normed by `gain` or as they are, made ready for the matrix at `where`; `after` is the norm of a
   sum that is still open. Few rows are made ready by each thread for itself. */
static void prepare(Work *w, int thread, int where, atomic_int *counter, float *from, const float *gain,
                    const float *after) {
    const Matrix *matrix = matrix_at(w->model, where);
    int rows = w->step->rows, each = w->each;
#define READY(row) prepare_row(w, matrix, row, from + (int64_t)(row) * matrix->inputs, gain)
#define LOWER(row, count) if (w->adapter) lower_rows(w, where, thread, row, count, matrix->inputs, from, gain)
    if (w->few && !after) {
        for (int row = 0; row < rows; row++) READY(row);
        LOWER(0, rows);
        if (w->parted) wait(w, thread, matrix);
        return;
    }
    EACH(item, counter, (rows + each - 1) / each) {
        int first = item * each, end = first + each < rows ? first + each : rows;
        for (int row = first; row < end; row++) {
            if (after) add_normed(w, row, after);
            if (!w->few) READY(row);
        }
        if (!w->few) LOWER(first, end - first);
    }
#undef LOWER
#undef READY
    wait(w, thread, matrix);
    if (w->few) prepare(w, thread, where, counter, from, gain, NULL);
}

/* `next` is the matrix that is read after this one. */
static void product(Work *w, int thread, int where, atomic_int *counter, Product p, const Matrix *next) {
    p.rows = w->step->rows;
    p.where = where;
    p.matrix = matrix_at(w->model, where);
    multiply(w, &p, thread, counter);
    wait(w, thread, next);
}

/* x += scale * matrix * bytes, or the product alone where a norm comes first. */
static Product sum_into(const Work *w, int normed) {
    return (Product){.out = normed ? w->delta : w->x, .stride = w->model->width,
                     .into = normed ? STORE : ADD, .scale = normed ? 1 : w->model->residual_scale};
}

static void run_layer(Work *w, int index, int thread, const float *before) {
    const Model *m = w->model;
    const Layer *l = &m->layer[index];
    atomic_int *counter = w->counters + index * PHASES;
    int qkv = (m->heads + 2 * m->kv_heads) * m->head_width, here = index * PLACES;
    prepare(w, thread, here + QKV, counter++, w->x, l->attention_norm, before);
    product(w, thread, here + QKV, counter++, (Product){.out = w->qkv, .stride = qkv, .into = STORE, .scale = 1},
            &l->out);
    if (!w->single) {
        EACH(row, counter, w->step->rows) place_row(w, index, row);
        wait(w, thread, &l->out);
    }
    attend(w, index, thread, ++counter);
    wait(w, thread, &l->out);
    prepare(w, thread, here + OUT, ++counter, w->mixed, NULL, NULL);
    product(w, thread, here + OUT, ++counter, sum_into(w, l->attention_after != NULL), &l->up);
    prepare(w, thread, here + UP, ++counter, w->x, l->mlp_norm, l->attention_after);
    product(w, thread, here + UP, ++counter, (Product){.out = w->hidden, .stride = m->hidden, .into = GATE,
                                                       .activation = m->activation}, &l->down);
    prepare(w, thread, here + DOWN, ++counter, w->hidden, NULL, NULL);
    product(w, thread, here + DOWN, ++counter, sum_into(w, l->mlp_after != NULL),
            index + 1 < m->layers ? &l[1].qkv : &m->head);
}

static int64_t largest_row(const Model *m) {
    int64_t most = row_bytes(&m->head);
    for (int i = 0; i < m->layers; i++) {
        const Matrix *each[] = {&m->layer[i].qkv, &m->layer[i].out, &m->layer[i].up, &m->layer[i].down};
        for (int j = 0; j < 4; j++) most = row_bytes(each[j]) > most ? row_bytes(each[j]) : most;
    }
    return most;
}

static int64_t widest(const Model *m) { /* inputs that a matrix of a layer has */
    int64_t most = m->width > m->hidden ? m->width : m->hidden, mixed = m->heads * m->head_width;
    return most > mixed ? most : mixed;
}

static void prepare_wanted(Work *w, int thread, atomic_int *counter) {
    const Model *m = w->model;
    const Step *s = w->step;
#define READY(i) prepare_row(w, &m->head, i, w->x + (int64_t)s->wanted_rows[i] * m->width, m->final_norm)
    if (w->few) {
        for (int i = 0; i < s->wanted; i++) READY(i);
        return;
    }
    EACH(i, counter, s->wanted) READY(i);
    wait(w, thread, &m->head);
}

static void decode(void *context, int thread) {
    Work mine = *(const Work *)context, *w = &mine;
    const Model *m = w->model;
    const Step *s = w->step;
    atomic_int *counter = w->counters + m->layers * PHASES;
    const float *after = NULL;
    if (w->few) w->bytes += thread * FEW * largest_row(m), w->row_scale += thread * LANES, w->row_sum += thread * LANES;
    if (w->adapter) {
        w->normed += thread * TOGETHER * widest(m);
        if (w->few && !w->parted) w->lowered += thread * FEW * s->ranks;
    }
    EACH(row, counter, s->rows) begin_row(w, row);
    wait(w, thread, &m->layer[0].qkv);
    for (int i = 0; i < m->layers; i++) {
        run_layer(w, i, thread, after);
        after = m->layer[i].mlp_after;
    }
    counter++;
    if (after) {
        EACH(row, counter, s->rows) add_normed(w, row, after);
        wait(w, thread, &m->head);
    }
    counter++;
    prepare_wanted(w, thread, counter);
    multiply(w, &(Product){.matrix = &m->head, .out = s->logits, .stride = m->vocabulary, .rows = s->wanted,
                           .into = STORE, .where = NOWHERE, .scale = m->logit_scale, .softcap = m->logit_softcap}, thread, ++counter);
}

/* ---- memory, and the door ---- */

/* Lays the arrays of a step one after the other; with memory NULL it only counts. */
static size_t lay(Work *w, const Model *m, const Step *s, char *memory) {
    size_t used = 0, rows = (size_t)s->rows, threads = (size_t)pool_threads(w->pool);
#define TAKE(field, count) \
    (w->field = (void *)(memory + used), used += ((size_t)(count) * sizeof *w->field + 127) / 128 * 128)
    TAKE(counters, threads * (size_t)w->phases);
    TAKE(position, rows);
    TAKE(span_of, rows);
    TAKE(first_item, s->spans + 1);
    TAKE(x, rows * (size_t)m->width);
    TAKE(delta, rows * (size_t)m->width);
    TAKE(qkv, rows * (size_t)((m->heads + 2 * m->kv_heads) * m->head_width));
    TAKE(mixed, rows * (size_t)(m->heads * m->head_width));
    TAKE(hidden, rows * (size_t)m->hidden);
    TAKE(bytes, (w->few ? threads * FEW : rows) * (size_t)largest_row(m));
    TAKE(row_scale, rows + threads * LANES);
    TAKE(row_sum, rows + threads * LANES);
    TAKE(scores, threads * QUERIES * (size_t)w->longest);
    if (!s->adapters) {
        w->adapter = NULL;
        return used;
    }
    TAKE(adapter, rows);
    TAKE(lowered, (rows > threads * FEW ? rows : threads * FEW) * (size_t)s->ranks);
    TAKE(normed, threads * TOGETHER * (size_t)widest(m));
    return used;
}

static void survey(Work *w, const Model *m, const Step *s) {
    int row = 0;
    w->first_item[0] = 0;
    memset(w->counters, 0, sizeof *w->counters * (size_t)(w->phases * pool_threads(w->pool)));
    for (int i = 0; i < s->spans; i++) {
        w->first_item[i + 1] = w->first_item[i] + attention_items(m, s->counts[i]);
        for (int j = 0; j < s->counts[i]; j++, row++) {
            w->position[row] = s->starts[i] + j;
            w->span_of[row] = i;
            if (w->adapter) w->adapter[row] = s->adapters[i];
        }
    }
}

/* A pool of threads and the memory of its steps. */
Runner *loam_new(int threads) {
    Runner *r = calloc(1, sizeof *r);
    if (r) r->work.pool = pool_new(threads);
    if (r && r->work.pool) return r;
    free(r);
    return NULL;
}

void loam_sizes(int32_t *sizes) {
    sizes[0] = sizeof(Matrix), sizes[1] = sizeof(Layer), sizes[2] = sizeof(Model), sizes[3] = sizeof(Step),
    sizes[4] = sizeof(LowRank);
}

/* 0, or 1 where there is no memory for so many rows. */
int loam_step(Runner *r, const Model *model, const Step *step) {
    Work *w = &r->work;
    w->longest = 0;
    for (int i = 0; i < step->spans; i++) {
        int end = (step->starts[i] + step->counts[i] + PAGE - 1) / PAGE * PAGE;
        w->longest = end > w->longest ? end : w->longest;
    }
    w->phases = (model->layers * PHASES + EXTRA + LANES - 1) / LANES * LANES;
    w->few = step->rows <= FEW && step->wanted <= FEW;
    w->parted = w->few && step->adapters && pool_threads(w->pool) > APART;
    w->each = step->adapters && step->rows >= 2 * TOGETHER * pool_threads(w->pool) ? TOGETHER : 1;
    w->single = !model->wide_norm;
    for (int i = 0; i < step->spans; i++) w->single &= step->counts[i] == 1;
    size_t need = lay(w, model, step, NULL);
    if (need > r->room) {
        free(r->memory);
        r->memory = NULL;
        r->room = 0;
        need += need / 4;
        if (posix_memalign((void **)&r->memory, 2 << 20, need)) return 1;
        r->room = need;
    }
    lay(w, model, step, r->memory);
    w->model = model;
    w->step = step;
    survey(w, model, step);
    pool_run(w->pool, decode, w);
    return 0;
}

void loam_free(Runner *r) {
    pool_free(r->work.pool);
    free(r->memory);
    free(r);
}
