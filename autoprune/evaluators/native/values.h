// Values in memory, vectors, and the product that both methods of convolution are made of.

#pragma once

#if !defined(__AVX2__) || !defined(__FMA__)
#error "these kernels need a processor with AVX2 and FMA"
#endif

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#ifndef LANES
#define LANES 8
#endif

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int64_t i64;

extern "C" {

struct Value {
    float *data;
    i64 channels, height, width, top, left, rows, columns;  // top and left: halo; rows and columns: with the halo
};

struct Conv {
    i64 inputs, outputs, kernel_height, kernel_width, stride_height, stride_width, top, left, dilation_height,
        dilation_width;
    i64 tiles;  // of LANES images, transformed at once by Winograd's method; 0: directly
    const float *weights;  // as pack() wrote them
    const float *bias;     // or null
    i64 relu;
};

struct Rest {  // x * scale + shift (+ added) (then ReLU), channel by channel
    const float *scale, *shift;
    const Value *added;
    i64 relu;
};
}

static const int BLOCK = 4;  // output channels by WIDE columns are summed in registers: 12 of 16, and their operands
static const int WIDE = 3;

INLINE vec splat(float x) { return x - vec{}; }

#if LANES == 8
INLINE vec larger(vec low, vec x) { return _mm256_max_ps(low, x); }  // in this order it keeps a NaN in x
#else
INLINE vec larger(vec low, vec x) { return low > x ? low : x; }
#endif

INLINE vec floor_of(bool relu) { return splat(relu ? 0.0f : -__builtin_inff()); }

INLINE i64 channel_step(const Value &v) { return v.columns; }
INLINE i64 row_step(const Value &v) { return v.channels * v.columns; }

INLINE vec *at(const Value &v, i64 group, i64 channel, i64 y, i64 x) {
    vec *data = reinterpret_cast<vec *>(v.data);
    return data + ((group * v.rows + v.top + y) * v.channels + channel) * v.columns + v.left + x;
}

INLINE i64 offset(const Value &v, i64 group, i64 y, i64 x) {
    return at(v, group, 0, y, x) - reinterpret_cast<vec *>(v.data);
}

static void clear_halo(const Value &v, i64 group) {
    vec *row = at(v, group, 0, 0, -v.left), *first = row - v.top * row_step(v), *end = first + v.rows * row_step(v);
    std::fill(first, row, vec{});
    for (i64 i = 0; i < v.height * v.channels; i++, row += v.columns) {
        std::fill(row, row + v.left, vec{});
        std::fill(row + v.left + v.width, row + v.columns, vec{});
    }
    std::fill(row, end, vec{});
}

// sum[o][c] = sum over k of weights[k][o] * in[k][c]; row k of ``in`` is found by an offset or a constant distance.
template <int O, int C, bool OFFSETS>
INLINE void product(const float *weights, const vec *in, i64 distance, i64 step, const int32_t *offsets, i64 depth,
                    vec (&sum)[O][C]) {
    UNROLL for (int o = 0; o < O; o++) UNROLL for (int c = 0; c < C; c++) sum[o][c] = vec{};
    for (i64 k = 0; k < depth; k++, weights += O) {
        const vec *row = OFFSETS ? in + offsets[k] : in + k * distance;
        vec x[C];
        UNROLL for (int c = 0; c < C; c++) {
            x[c] = row[c * step];
            asm("" : "+x"(x[c]));  // in a register: read once, not O times
        }
        UNROLL for (int o = 0; o < O; o++) {
            const vec w = splat(weights[o]);
            UNROLL for (int c = 0; c < C; c++) sum[o][c] += w * x[c];
        }
    }
}

template <int O, int C>
INLINE void product_to(const float *weights, const vec *in, vec *out, i64 depth, i64 columns) {
    vec sum[O][C];
    product<O, C, false>(weights, in, columns, 1, nullptr, depth, sum);
    UNROLL for (int o = 0; o < O; o++) UNROLL for (int c = 0; c < C; c++) out[o * columns + c] = sum[o][c];
}

template <int O>
static void multiply_block(const float *weights, const vec *in, vec *out, i64 depth, i64 columns) {
    i64 c = 0;
    for (; c + WIDE <= columns; c += WIDE) product_to<O, WIDE>(weights, in + c, out + c, depth, columns);
    if (columns - c == 2) product_to<O, 2>(weights, in + c, out + c, depth, columns);
    if (columns - c == 1) product_to<O, 1>(weights, in + c, out + c, depth, columns);
}

// Calls run(O, o) for every block of O output channels that starts at o; O is a constant.
template <class Run>
INLINE void each_block(i64 outputs, Run run) {
    i64 o = 0;
    for (; o + BLOCK <= outputs; o += BLOCK) run(std::integral_constant<int, BLOCK>{}, o);
    if (outputs - o == 3) run(std::integral_constant<int, 3>{}, o);
    if (outputs - o == 2) run(std::integral_constant<int, 2>{}, o);
    if (outputs - o == 1) run(std::integral_constant<int, 1>{}, o);
}
