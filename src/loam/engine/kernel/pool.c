/* Threads that run one job together and wait for each other often: some hundred barriers a step, each under a
   microsecond. They spin briefly, give way to others when that takes long, and sleep between steps.

   Invariant: pool_run returns after every thread has left the job. One caller at a time. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include "kernel.h"

#define SPINS 100        /* a few us; then give way, which costs nothing where nobody else wants the core */
#define SPINS_IDLE 10000 /* between steps: the engine samples and comes back in some 100 us */

struct Pool {
    int threads;
    pthread_t *handles;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    Job job;
    void *context;
    int ending;
    _Alignas(64) atomic_int generation; /* counts jobs */
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int round;      /* counts barriers */
};

typedef struct { Pool *pool; int thread; } Seat;

static INLINE void pause_briefly(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void pool_wait(Pool *pool, const char *soon, int64_t bytes) {
    const char *end = soon + bytes;
    if (pool->threads == 1) return;
    int round = atomic_load_explicit(&pool->round, memory_order_relaxed);
    if (atomic_fetch_add(&pool->arrived, 1) == pool->threads - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->round, round + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&pool->round, memory_order_acquire) == round;) {
        if (soon < end)
            for (int line = 0; line < 4; line++, soon += 64) __builtin_prefetch(soon, 0, 2);
        else if (spins++ < SPINS) pause_briefly();
        else sched_yield();
    }
}

static void *worker(void *argument) {
    Seat seat = *(Seat *)argument;
    Pool *pool = seat.pool;
    free(argument);
    for (int seen = 0;; seen++) {
        int spins = 0;
        while (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen && spins++ < SPINS_IDLE)
            pause_briefly();
        if (atomic_load(&pool->generation) == seen) {
            pthread_mutex_lock(&pool->lock);
            while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
            pthread_mutex_unlock(&pool->lock);
        }
        if (pool->ending) return NULL;
        pool->job(pool->context, seat.thread);
        pool_wait(pool, NULL, 0);
    }
}

static void announce(Pool *pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->generation, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void pool_run(Pool *pool, Job job, void *context) {
    pool->job = job;
    pool->context = context;
    if (pool->threads > 1) announce(pool);
    job(context, 0);
    pool_wait(pool, NULL, 0);
}

Pool *pool_new(int threads) {
    Pool *pool = NULL;
    if (posix_memalign((void **)&pool, 64, sizeof *pool)) return NULL;
    memset(pool, 0, sizeof *pool);
    pool->threads = 1;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->handles = calloc((size_t)threads, sizeof *pool->handles);
    for (int i = 1; pool->handles && i < threads; i++) {
        Seat *seat = malloc(sizeof *seat);
        if (!seat) break;
        *seat = (Seat){pool, i};
        if (pthread_create(&pool->handles[i], NULL, worker, seat)) { free(seat); break; }
        pool->threads = i + 1; /* fewer than asked for where the system gives no more */
    }
    return pool;
}

int pool_threads(const Pool *pool) { return pool->threads; }

void pool_free(Pool *pool) {
    pool->ending = 1;
    announce(pool);
    for (int i = 1; i < pool->threads; i++) pthread_join(pool->handles[i], NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    free(pool->handles);
    free(pool);
}
