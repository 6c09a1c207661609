/* Sixteen lanes at a time: loads, sums, exponentials and the dot product of bytes, for whatever CPU this is built for.

   Knows instruction sets, no models. Invariant: the order in which numbers are added is the same on every CPU; only
   fused multiply-adds may round differently where a CPU lacks them. GCC's and clang's vector types do the splitting:
   a `vec` is one register with AVX-512, two with AVX2, four with NEON. */
#ifndef LOAM_VECTORS_H
#define LOAM_VECTORS_H

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))
#define LANES 16

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef uint32_t uvec __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));
typedef int8_t bytes __attribute__((vector_size(16)));

enum { FP32 = 0, BF16 = 1, FP16 = 2, INT8 = 3 };

static INLINE vec load(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
static INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }
static INLINE ivec load_int(const void *p) { ivec v; memcpy(&v, p, sizeof v); return v; }
static INLINE vec all(float x) { return (vec){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
static INLINE ivec all_int(int32_t x) { return (ivec){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
static INLINE ivec counting(int32_t from) {
    return all_int(from) + (ivec){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
}
static INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }

static INLINE vec larger(vec a, vec b) {
#if defined(__AVX512F__)
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return choose(a > b, a, b);
#endif
}
static INLINE vec smaller(vec a, vec b) { return -larger(-a, -b); }

/* Half precision: bf16 is the upper half of an fp32, fp16 has its own instructions or none. */

static INLINE float half_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13, bits;
    float value, shift = 5.192296858534828e33f; /* 2^112 moves the exponent's bias from 15 to 127 */
    bits = rest;
    memcpy(&value, &bits, 4);
    value *= shift;
    if ((h & 0x7c00) == 0x7c00) value = (h & 0x3ff) ? __builtin_nanf("") : __builtin_inff();
    memcpy(&bits, &value, 4);
    bits |= sign;
    memcpy(&value, &bits, 4);
    return value;
}
static INLINE vec load_as(int type, const void *base, int64_t index) {
    if (type == FP32) return load((const float *)base + index);
    halves h;
    memcpy(&h, (const uint16_t *)base + index, sizeof h);
    if (type == BF16) return (vec)(__builtin_convertvector(h, uvec) << 16);
#if defined(__AVX512F__)
    return (vec)_mm512_cvtph_ps((__m256i)h);
#else
    vec v;
    for (int i = 0; i < LANES; i++) v[i] = half_float(h[i]);
    return v;
#endif
}
static INLINE uint16_t bf16_of(float x) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)(x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static INLINE uint16_t half_of(float x) { /* to the nearest, ties to even; beyond 65504 infinity */
    uint32_t bits, sign;
    memcpy(&bits, &x, 4);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (bits >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) { /* too small for a normal half: let an fp32 subnormal round it */
        float value;
        memcpy(&value, &bits, 4);
        value = value + 0.5f; /* the last bit of 0.5 is 2^-24, the smallest half */
        memcpy(&bits, &value, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xc8000000u + 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | bits >> 13);
}
static INLINE void store_as(int type, void *base, int64_t index, float x) {
    if (type == FP32) ((float *)base)[index] = x;
    else ((uint16_t *)base)[index] = type == BF16 ? bf16_of(x) : half_of(x);
}

static INLINE void store_vec_as(int type, void *base, int64_t index, vec v) {
#if defined(__AVX512F__)
    if (type == FP16) {
        __m256i h = _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        memcpy((uint16_t *)base + index, &h, sizeof h);
        return;
    }
#endif
    for (int i = 0; i < LANES; i++) store_as(type, base, index + i, v[i]);
}

/* Sixteen vectors to their sixteen sums. Each sum adds lane l and l + 8, then + 4, + 2, + 1, on every CPU. */

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

static INLINE vec sums16(const vec v[16]) {
#if defined(__AVX512F__) || defined(__clang__)
    vec t[8], u[4], w[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        t[i] = SHUFFLE(v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               SHUFFLE(v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        u[i] = SHUFFLE(t[i], t[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
               SHUFFLE(t[i], t[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        w[i] = SHUFFLE(u[i], u[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               SHUFFLE(u[i], u[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return SHUFFLE(w[0], w[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
           SHUFFLE(w[0], w[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
#else
    float sums[16];
    for (int i = 0; i < 16; i++) {
        float x[16];
        memcpy(x, &v[i], sizeof x);
        for (int half = 8; half; half /= 2)
            for (int l = 0; l < half; l++) x[l] += x[l + half];
        sums[i] = x[0];
    }
    return load(sums);
#endif
}
static INLINE float sum(vec v) {
    float x[16];
    memcpy(x, &v, sizeof x);
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++) x[l] += x[l + half];
    return x[0];
}
static INLINE float largest(vec v) {
    float x[16], most;
    memcpy(x, &v, sizeof x);
    most = x[0];
    for (int l = 1; l < 16; l++) most = x[l] > most ? x[l] : most;
    return most;
}

/* e^x for |x| up to 87, within 2 units in the last place: Cephes' expf (Moshier). */
static INLINE vec exponential(vec x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to the nearest whole number */
    x = smaller(larger(x, all(-87.3f)), all(88.0f));
    vec shifted = x * all(1.44269504088896341f) + all(magic);
    vec n = shifted - all(magic);
    x = x - n * all(0.693359375f);
    x = x - n * all(-2.12194440e-4f);
    vec p = all(1.9875691500e-4f);
    p = p * x + all(1.3981999507e-3f);
    p = p * x + all(8.3334519073e-3f);
    p = p * x + all(4.1665795894e-2f);
    p = p * x + all(1.6666665459e-1f);
    p = p * x + all(5.0000001201e-1f);
    p = p * x * x + x + all(1.0f);
    return p * (vec)(((ivec)shifted - all_int(0x4b400000) + all_int(127)) << 23);
}

/* acc[i] += sum over j < 4 of weights[4 i + j] * row[j]; weights 0..255, the row's four bytes -127..127. Exact. */
static INLINE ivec dot4(ivec acc, ivec weights, int32_t row) {
#if defined(__AVX512VNNI__)
    return (ivec)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)weights, _mm512_set1_epi32(row));
#elif defined(__AVX2__)
    __m256i a[2], w[2], r = _mm256_set1_epi32(row);
    memcpy(a, &acc, sizeof a);
    memcpy(w, &weights, sizeof w);
    for (int i = 0; i < 2; i++) {
#if defined(__AVXVNNI__)
        a[i] = _mm256_dpbusd_avx_epi32(a[i], w[i], r);
#else /* maddubs would saturate, so even and odd bytes are multiplied as 16-bit numbers */
        __m256i even = _mm256_madd_epi16(_mm256_and_si256(w[i], _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(r, 8), 8));
        __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(w[i], 8), _mm256_srai_epi16(r, 8));
        a[i] = _mm256_add_epi32(a[i], _mm256_add_epi32(even, odd));
#endif
    }
    memcpy(&acc, a, sizeof acc);
    return acc;
#else
    uint8_t w[64];
    int8_t r[4];
    memcpy(w, &weights, sizeof w);
    memcpy(r, &row, sizeof r);
    for (int i = 0; i < LANES; i++)
        acc[i] += w[4 * i] * r[0] + w[4 * i + 1] * r[1] + w[4 * i + 2] * r[2] + w[4 * i + 3] * r[3];
    return acc;
#endif
}

#endif
