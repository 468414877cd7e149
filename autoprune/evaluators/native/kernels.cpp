// Convolutions over images that lie side by side in the processor's vectors: lane i of every vector belongs to image i
// of a group of LANES images, so the arithmetic is the same in each lane whatever the number of channels.
//
// A value of the network is, for each group, (rows, channels, columns) vectors with a border ("halo") of zeros: a padded
// convolution reads without looking where it is, and some rows of all channels are one stretch of memory. Nothing here
// keeps state between calls.

#include "direct.h"
#include "moments.h"
#include "winograd.h"

extern "C" {

i64 lanes() { return LANES; }

i64 memory_bytes(const Conv *conv) {  // that convolve() works in; starts at a multiple of 64 bytes
    if (conv->tiles) return Space(*conv).all() * sizeof(vec);
    return conv->inputs * conv->kernel_height * conv->kernel_width * sizeof(int32_t);
}

// weights (outputs, inputs, height, width) -> (point,) block of outputs, input, (tap,) output of the block
void pack(const Conv *conv, const float *weights, float *packed) {
    static const double G[SIDE][3] = {{1. / 4, 0, 0},           {-1. / 6, -1. / 6, -1. / 6}, {-1. / 6, 1. / 6, -1. / 6},
                                      {1. / 24, 1. / 12, 1. / 6}, {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}};
    const i64 taps = conv->kernel_height * conv->kernel_width, inputs = conv->inputs, outputs = conv->outputs;
    for (i64 o = 0; o < outputs; o++) {
        const i64 first = o / BLOCK * BLOCK, block = std::min<i64>(BLOCK, outputs - first);
        for (i64 c = 0; c < inputs; c++) {
            const float *g = weights + (o * inputs + c) * taps;
            if (!conv->tiles) {
                for (i64 t = 0; t < taps; t++) packed[(first * inputs + c * block) * taps + t * block + o - first] = g[t];
                continue;
            }
            float *to = packed + first * inputs + c * block + o - first;
            for (int i = 0; i < SIDE; i++) {
                double half[3];
                for (int x = 0; x < 3; x++) half[x] = G[i][0] * g[x] + G[i][1] * g[3 + x] + G[i][2] * g[6 + x];
                for (int j = 0; j < SIDE; j++, to += inputs * outputs)
                    *to = G[j][0] * half[0] + G[j][1] * half[1] + G[j][2] * half[2];
            }
        }
    }
}

// Strides of images, channels, rows and columns, in floats. Lanes without an image are filled with zeros.
void load(const float *from, const i64 *strides, i64 images, const Value *to, i64 groups) {
    for (i64 g = 0; g < groups; g++) {
        clear_halo(*to, g);
        const i64 count = std::min<i64>(LANES, images - g * LANES);
        for (i64 c = 0; c < to->channels; c++)
            for (i64 y = 0; y < to->height; y++) {
                const float *row = from + g * LANES * strides[0] + c * strides[1] + y * strides[2];
                float *out = reinterpret_cast<float *>(at(*to, g, c, y, 0));
                for (i64 x = 0; x < to->width; x++, row += strides[3], out += LANES)
                    for (i64 lane = 0; lane < LANES; lane++) out[lane] = lane < count ? row[lane * strides[0]] : 0.0f;
            }
    }
}

void store(const Value *from, float *to, i64 images) {  // to (images, channels, height, width), contiguous
    for (i64 n = 0; n < images; n++)
        for (i64 c = 0; c < from->channels; c++)
            for (i64 y = 0; y < from->height; y++) {
                const float *row = reinterpret_cast<float *>(at(*from, n / LANES, c, y, 0)) + n % LANES;
                for (i64 x = 0; x < from->width; x++) *to++ = row[x * LANES];
            }
}

void finish(const Value *value, const Rest *rest, i64 groups) {
    for (i64 g = 0; g < groups; g++) finish_rows(*value, *rest, g, 0, value->height);
}

void convolve(const Conv *conv, const Value *in, const Value *out, const Value *added, i64 groups, void *memory) {
    int32_t *offsets = static_cast<int32_t *>(memory);
    for (i64 g = 0; g < groups; g++) clear_halo(*out, g);
    if (conv->tiles) {
        const i64 tiles = groups * tiles_across(*out) * tiles_down(*out);
        winograd(*conv, *in, *out, added, 0, tiles, static_cast<vec *>(memory));
    } else {
        set_offsets(*conv, *in, offsets);
        for (i64 g = 0; g < groups; g++) direct(*conv, *in, *out, added, g, 0, out->height, offsets);
    }
}

// A few rows at a time, which stay in the cache: the rest of ``in`` (or null) is computed in place before it is read,
// and the moments of ``out`` are taken after it is written; they start at zero.
void convolve_measured(const Conv *conv, const Value *in, const Rest *rest, const Value *out, i64 images,
                       const Moments *moments, void *memory) {
    int32_t *offsets = static_cast<int32_t *>(memory);
    const i64 across = tiles_across(*out), down = tiles_down(*out);
    const i64 rows = TILE * std::max<i64>(1, conv->tiles / across);
    if (!conv->tiles) set_offsets(*conv, *in, offsets);
    for (i64 g = 0; g * LANES < images; g++) {
        clear_halo(*out, g);
        for (i64 y = 0, finished = 0; y < out->height; y += rows) {
            const i64 end = std::min(y + rows, out->height), first = (g * down + y / TILE) * across;
            i64 read = (end - 1) * conv->stride_height - conv->top + (conv->kernel_height - 1) * conv->dilation_height + 1;
            read = end == out->height ? in->height : std::min(std::max(read, finished), in->height);
            if (rest) finish_rows(*in, *rest, g, finished, read);
            finished = read;
            if (conv->tiles) winograd(*conv, *in, *out, nullptr, first, first + (end - y + TILE - 1) / TILE * across,
                                      static_cast<vec *>(memory));
            else direct(*conv, *in, *out, nullptr, g, y, end, offsets);
            gather(*out, g, y, end, images, *moments);
        }
    }
}
}
