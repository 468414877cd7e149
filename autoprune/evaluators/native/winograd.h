// F(4x4, 3x3), Lavin and Gray 2016 (arXiv:1509.09308), at the points 0, 1, -1, 2, -2 and infinity.

#pragma once

#include "values.h"

static const int SIDE = 6, TILE = 4;  // tiles read 6x6 and write 4x4


INLINE void forward(const vec (&d)[SIDE], vec (&t)[SIDE]) {
    const vec a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = d[3] - d[1];
    t[0] = 4 * (d[0] - d[2]) + c;
    t[1] = a + b;
    t[2] = a - b;
    t[3] = c + 2 * e;
    t[4] = c - 2 * e;
    t[5] = (d[5] - d[3]) - 4 * e;
}

INLINE void backward(const vec (&m)[SIDE], vec (&s)[TILE]) {
    const vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    s[0] = m[0] + a + c;
    s[1] = b + 2 * e;
    s[2] = a + 4 * c;
    s[3] = (b + m[5]) + 8 * e;
}

// Neighbours in a row of tiles: where a value's first channel is read, written and added, and the part that is written.
struct Run {
    i64 in, out, added, tiles, height, width;
    i64 reads() const { return tiles * TILE + SIDE - TILE; }
};

static i64 apart(i64 vectors) {  // distance between matrices that are used together: never a multiple of a page
    const i64 line = LANES < 16 ? 16 / LANES : 1;
    return ((vectors + line - 1) / line | 1) * line;
}

// Where a block's tiles are: runs of neighbours, and each tile's first column among those that the block reads.
struct Tiles {
    static const int MOST = 64;
    Run runs[MOST];
    i64 first[MOST], count, n, width;
};

// Down the columns of the image, channel after channel: SIDE matrices of (channels, columns read).
static void transform_down(const Value &in, i64 channels, const Tiles &tiles, vec *to, i64 distance) {
    const i64 row = row_step(in);
    for (i64 c = 0; c < channels; c++)
        for (i64 i = 0; i < tiles.n; i++) {
            const vec *image = reinterpret_cast<vec *>(in.data) + c * channel_step(in) + tiles.runs[i].in;
            const i64 width = tiles.runs[i].reads();
            for (i64 x = 0; x < width; x++, image++, to++) {
                vec d[SIDE], t[SIDE];
                UNROLL for (int y = 0; y < SIDE; y++) d[y] = image[y * row];
                forward(d, t);
                UNROLL for (int y = 0; y < SIDE; y++) to[y * distance] = t[y];
            }
        }
}

// Along the rows: one of those matrices -> SIDE matrices of (channels, tiles).
static void transform_across(const vec *half, i64 channels, const Tiles &tiles, vec *to, i64 distance) {
    for (i64 c = 0; c < channels; c++, half += tiles.width)
        for (i64 i = 0; i < tiles.count; i++, to++) {
            const vec *from = half + tiles.first[i];
            vec d[SIDE], t[SIDE];
            UNROLL for (int x = 0; x < SIDE; x++) d[x] = from[x];
            forward(d, t);
            UNROLL for (int x = 0; x < SIDE; x++) to[x * distance] = t[x];
        }
}

static void back_across(const vec *from, i64 distance, i64 tiles, vec *half) {
    for (i64 i = 0; i < tiles; i++, from++, half += TILE) {
        vec m[SIDE], s[TILE];
        UNROLL for (int x = 0; x < SIDE; x++) m[x] = from[x * distance];
        backward(m, s);
        UNROLL for (int x = 0; x < TILE; x++) half[x] = s[x];
    }
}

template <bool ADD, bool WHOLE>
INLINE void back_down_run(const vec *half, i64 distance, const Run &run, vec *image, i64 row, const vec *added,
                          i64 added_row, vec bias, vec low) {
    for (i64 x = 0; x < run.width; x++, half++, image++, added += ADD) {
        vec m[SIDE], s[TILE];
        UNROLL for (int y = 0; y < SIDE; y++) m[y] = half[y * distance];
        backward(m, s);
        UNROLL for (int y = 0; y < TILE; y++) if (WHOLE || y < run.height) {
            const vec sum = ADD ? s[y] + bias + added[y * added_row] : s[y] + bias;
            image[y * row] = larger(low, sum);
        }
    }
}

template <bool ADD>
static void back_down(const Conv &conv, const vec *half, i64 distance, const Tiles &tiles, const Value &out,
                      const Value *added) {
    const vec low = floor_of(conv.relu);
    const i64 row = row_step(out), added_row = ADD ? row_step(*added) : 0;
    for (i64 o = 0; o < conv.outputs; o++) {
        const vec bias = splat(conv.bias ? conv.bias[o] : 0.0f);
        vec *image = reinterpret_cast<vec *>(out.data) + o * channel_step(out);
        const vec *plus = ADD ? reinterpret_cast<vec *>(added->data) + o * channel_step(*added) : nullptr;
        for (i64 i = 0; i < tiles.n; half += tiles.runs[i++].tiles * TILE) {
            const Run &run = tiles.runs[i];
            const vec *from = ADD ? plus + run.added : nullptr;
            if (run.height == TILE)
                back_down_run<ADD, true>(half, distance, run, image + run.out, row, from, added_row, bias, low);
            else
                back_down_run<ADD, false>(half, distance, run, image + run.out, row, from, added_row, bias, low);
        }
    }
}

struct Space {  // parts of the working memory, as distances between their SIDE matrices in vectors
    i64 half, transformed, products, done;
    explicit Space(const Conv &conv)
        : half(apart(conv.inputs * conv.tiles * SIDE)), transformed(apart(conv.inputs * conv.tiles)),
          products(apart(conv.outputs * conv.tiles)), done(apart(conv.outputs * conv.tiles * TILE)) {}
    i64 all() const { return SIDE * (half + transformed + products + done); }
};

INLINE i64 tiles_across(const Value &out) { return (out.width + TILE - 1) / TILE; }
INLINE i64 tiles_down(const Value &out) { return (out.height + TILE - 1) / TILE; }

static void place(const Conv &conv, const Value &in, const Value &out, const Value *added, i64 first, i64 count,
                  Tiles &tiles) {
    const i64 across = tiles_across(out), down = tiles_down(out);
    tiles.n = tiles.width = 0, tiles.count = count;
    for (i64 i = 0; i < count;) {
        const i64 tile = first + i, group = tile / (across * down);
        const i64 y = tile / across % down * TILE, x = tile % across * TILE;
        const i64 run = std::min(count - i, across - tile % across);
        tiles.runs[tiles.n++] = {offset(in, group, y - conv.top, x - conv.left), offset(out, group, y, x),
                                 added ? offset(*added, group, y, x) : 0, run, std::min<i64>(TILE, out.height - y),
                                 std::min(TILE * run, out.width - x)};
        for (i64 k = 0; k < run; k++, i++, tiles.width += TILE) tiles.first[i] = tiles.width;
        tiles.width += SIDE - TILE;
    }
}

// Tiles are counted through all groups: group after group, row after row.
static void winograd(const Conv &conv, const Value &in, const Value &out, const Value *added, i64 begin, i64 end,
                     vec *memory) {
    const i64 inputs = conv.inputs, outputs = conv.outputs;
    const Space space(conv);
    vec *half = memory, *transformed = half + SIDE * space.half, *products = transformed + SIDE * space.transformed;
    vec *done = products + SIDE * space.products;
    Tiles tiles;
    for (i64 first = begin; first < end; first += tiles.count) {
        place(conv, in, out, added, first, std::min(conv.tiles, end - first), tiles);
        const i64 count = tiles.count;
        transform_down(in, inputs, tiles, half, space.half);
        for (int y = 0; y < SIDE; y++) {
            transform_across(half + y * space.half, inputs, tiles, transformed, space.transformed);
            for (int x = 0; x < SIDE; x++) {
                const float *weights = conv.weights + (y * SIDE + x) * inputs * outputs;
                const vec *left = transformed + x * space.transformed;
                vec *right = products + x * space.products;
                each_block(outputs, [&](auto O, i64 o) {
                    multiply_block<O.value>(weights + o * inputs, left, right + o * count, inputs, count);
                });
            }
            back_across(products, space.products, outputs * count, done + y * space.done);
        }
        if (added) back_down<true>(conv, done, space.done, tiles, out, added);
        else back_down<false>(conv, done, space.done, tiles, out, nullptr);
    }
}
