// Any convolution, as the sum that defines it.

#pragma once

#include "values.h"

template <int O, int C>
static void direct_block(const Conv &conv, const float *weights, const vec *in, const int32_t *offsets, i64 depth,
                         i64 first, vec *out, i64 out_step, const vec *added, i64 added_step, vec low) {
    vec sum[O][C];
    product<O, C, true>(weights, in, 0, conv.stride_width, offsets, depth, sum);
    UNROLL for (int o = 0; o < O; o++) {
        const vec bias = splat(conv.bias ? conv.bias[first + o] : 0.0f);
        UNROLL for (int c = 0; c < C; c++) {
            sum[o][c] += bias;
            if (added) sum[o][c] += added[o * added_step + c];
            out[o * out_step + c] = larger(low, sum[o][c]);
        }
    }
}

static void set_offsets(const Conv &conv, const Value &in, int32_t *offsets) {
    for (i64 c = 0; c < conv.inputs; c++)
        for (i64 y = 0; y < conv.kernel_height; y++)
            for (i64 x = 0; x < conv.kernel_width; x++)
                *offsets++ = c * channel_step(in) + y * conv.dilation_height * row_step(in) + x * conv.dilation_width;
}

// Rows of one group. The offsets of what a result reads are as set_offsets() wrote them.
static void direct(const Conv &conv, const Value &in, const Value &out, const Value *added, i64 g, i64 begin, i64 end,
                   const int32_t *offsets) {
    const i64 depth = conv.inputs * conv.kernel_height * conv.kernel_width;
    const vec low = floor_of(conv.relu);
    const i64 out_step = channel_step(out), added_step = added ? channel_step(*added) : 0;
    for (i64 y = begin; y < end; y++)
        for (i64 x = 0; x < out.width; x += WIDE) {
            const vec *from = at(in, g, 0, y * conv.stride_height - conv.top, x * conv.stride_width - conv.left);
            const i64 wide = std::min<i64>(WIDE, out.width - x);
            each_block(conv.outputs, [&](auto O, i64 o) {
                const float *weights = conv.weights + o * depth;
                vec *to = at(out, g, o, y, x);
                const vec *plus = added ? at(*added, g, o, y, x) : nullptr;
                auto block = wide == 3 ? direct_block<O.value, 3> : wide == 2 ? direct_block<O.value, 2>
                                                                              : direct_block<O.value, 1>;
                block(conv, weights, from, offsets, depth, o, to, out_step, plus, added_step, low);
            });
        }
}
