/* How fast this machine's memory can be read: the sum of one large array in huge pages, by `threads` threads. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

typedef struct { const uint64_t *from; size_t count; uint64_t sum; } Share;

static void *add(void *argument) {
    Share *share = argument;
    uint64_t lanes[32] = {0};
    for (size_t i = 0; i + 32 <= share->count; i += 32) {
        __builtin_prefetch(share->from + i + 512);
        __builtin_prefetch(share->from + i + 520);
        __builtin_prefetch(share->from + i + 528);
        __builtin_prefetch(share->from + i + 536);
        for (int l = 0; l < 32; l++) lanes[l] += share->from[i + l];
    }
    for (int l = 0; l < 32; l++) share->sum += lanes[l];
    return NULL;
}

/* Bytes a second, the best of `rounds`; 0 without the memory. */
double read_rate(int threads, size_t bytes, int rounds) {
    uint64_t *memory = NULL;
    double best = 0;
    if (posix_memalign((void **)&memory, 2 << 20, bytes)) return 0;
    madvise(memory, bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < bytes / 8; i++) memory[i] = i;
    for (int round = 0; round < rounds; round++) {
        pthread_t handles[64];
        Share shares[64];
        struct timespec begin, end;
        size_t each = bytes / 8 / (size_t)threads;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        for (int t = 0; t < threads; t++) {
            shares[t] = (Share){memory + (size_t)t * each, each, 0};
            pthread_create(&handles[t], NULL, add, &shares[t]);
        }
        for (int t = 0; t < threads; t++) pthread_join(handles[t], NULL);
        clock_gettime(CLOCK_MONOTONIC, &end);
        double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
        double rate = (double)bytes / seconds;
        best = rate > best && shares[0].sum ? rate : best;
    }
    free(memory);
    return best;
}
