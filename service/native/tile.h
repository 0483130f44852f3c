/* Vectors of LANES floats, by the compilers' vector extensions, and products of small matrices held in registers.
 * Include with LANES and VECS defined. */
#include "item_slots.h"

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef float unaligned_vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

INLINE vec load(const float *from) { return *(const unaligned_vec *)from; }
INLINE void store(float *to, vec values) { *(unaligned_vec *)to = values; }
INLINE vec splat(float value) { return value - (vec){0}; }
INLINE vec where(ivec condition, vec yes, vec no) {
    return (vec)((condition & (ivec)yes) | (~condition & (ivec)no));
}

/* C (rows x vecs * LANES) = A (rows x depth) B (depth x vecs * LANES), added to C if `add`. */
INLINE void tile(const int rows, const int vecs, int64_t depth, const float *restrict a, int64_t lda,
                 const float *restrict b, int64_t ldb, float *restrict c, int64_t ldc, int add) {
    vec sums[ABSORB_ROWS][VECS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < vecs; v++)
            sums[r][v] = add ? load(c + r * ldc + v * LANES) : (vec){0};
    for (int64_t k = 0; k < depth; k++, b += ldb) {
        vec row[VECS];
        UNROLL for (int v = 0; v < vecs; v++) row[v] = load(b + v * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            vec left = splat(a[r * lda + k]);
            UNROLL for (int v = 0; v < vecs; v++) sums[r][v] += left * row[v];
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < vecs; v++) store(c + r * ldc + v * LANES, sums[r][v]);
}

#define TILE_ARGUMENTS                                                                              \
    int64_t depth, const float *restrict a, int64_t lda, const float *restrict b, int64_t ldb,      \
        float *restrict c, int64_t ldc, int add
#define TILE(rows, vecs)                                                                            \
    static void tile_##rows##_##vecs(TILE_ARGUMENTS) { tile(rows, vecs, depth, a, lda, b, ldb, c, ldc, add); }
#define TILES(vecs) TILE(1, vecs) TILE(2, vecs) TILE(3, vecs) TILE(4, vecs) TILE(5, vecs) TILE(6, vecs)
#define NAMES(vecs) \
    {tile_1_##vecs, tile_2_##vecs, tile_3_##vecs, tile_4_##vecs, tile_5_##vecs, tile_6_##vecs}

TILES(1)
TILES(2)
#if VECS == 4
TILES(3)
TILES(4)
#endif

typedef void (*tile_function)(TILE_ARGUMENTS);
static const tile_function TABLE[VECS][ABSORB_ROWS] = {
    NAMES(1), NAMES(2),
#if VECS == 4
    NAMES(3), NAMES(4),
#endif
};

/* Any number of rows; `width` is a multiple of LANES. B is packed in panels if `ldb` is 0. */
static void multiply(int64_t rows, int64_t width, int64_t depth, const float *a, int64_t lda, const float *b,
                     int64_t ldb, float *c, int64_t ldc, int add) {
    for (int64_t left = 0; left < width; left += VECS * LANES) {
        int64_t vecs = (width - left) / LANES < VECS ? (width - left) / LANES : VECS;
        const float *panel = ldb ? b + left : b + left * depth;
        int64_t step = ldb ? ldb : vecs * LANES;
        for (int64_t top = 0; top < rows; top += ABSORB_ROWS) {
            int64_t count = rows - top < ABSORB_ROWS ? rows - top : ABSORB_ROWS;
            TABLE[vecs - 1][count - 1](depth, a + top * lda, lda, panel, step, c + top * ldc + left, ldc, add);
        }
    }
}

/* exp of x <= 88 to 2 ulp (Cephes' polynomial); below -87 it is exp(-87), about 1e-38. NaN stays NaN. */
INLINE vec exponential(vec x) {
    const vec shift = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer, which is in the low bits */
    x = where(x < splat(-87.0f), splat(-87.0f), x);
    vec shifted = x * splat(1.44269504f) + shift;
    vec whole = shifted - shift;
    vec rest = x - whole * splat(0.693359375f) + whole * splat(2.12194440e-4f);
    vec p = splat(1.9875691500e-4f);
    p = p * rest + splat(1.3981999507e-3f);
    p = p * rest + splat(8.3334519073e-3f);
    p = p * rest + splat(4.1665795894e-2f);
    p = p * rest + splat(1.6666665459e-1f);
    p = p * rest + splat(5.0000001201e-1f);
    p = p * (rest * rest) + (rest + splat(1.0f));
    return (vec)((ivec)p + ((ivec)shifted << 23));
}

INLINE float total(vec values) {
    float sum = 0.0f;
    for (int lane = 0; lane < LANES; lane++) sum += values[lane];
    return sum;
}
