// Convolutions over images that lie side by side in the processor's vectors: lane i of every vector belongs to image i
// of a group of LANES images, so the arithmetic is the same in each lane whatever the number of channels.
//
// A value of the network is, for each group, (channels, rows, columns) vectors with a border ("halo") of zeros around
// each plane: a padded convolution reads without looking where it is. Nothing here keeps state between calls.

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#if !defined(__AVX2__) || !defined(__FMA__)
#error "these kernels need a processor with AVX2 and FMA"
#endif

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
static const int SIDE = 6, TILE = 4;  // Winograd: tiles read 6x6 and write 4x4

INLINE vec splat(float x) { return x - vec{}; }

#if LANES == 8
INLINE vec larger(vec low, vec x) { return _mm256_max_ps(low, x); }  // in this order it keeps a NaN in x
#else
INLINE vec larger(vec low, vec x) { return low > x ? low : x; }
#endif

INLINE vec floor_of(bool relu) { return splat(relu ? 0.0f : -__builtin_inff()); }

INLINE i64 plane(const Value &v) { return v.rows * v.columns; }

INLINE vec *at(const Value &v, i64 group, i64 channel, i64 y, i64 x) {
    vec *data = reinterpret_cast<vec *>(v.data);
    return data + (group * v.channels + channel) * plane(v) + (y + v.top) * v.columns + x + v.left;
}

INLINE i64 offset(const Value &v, i64 group, i64 y, i64 x) {
    return at(v, group, 0, y, x) - reinterpret_cast<vec *>(v.data);
}

static void clear_halo(const Value &v, i64 group) {
    for (i64 c = 0; c < v.channels; c++) {
        vec *first = at(v, group, c, -v.top, -v.left), *row = first + v.top * v.columns;
        std::fill(first, row, vec{});
        for (i64 y = 0; y < v.height; y++, row += v.columns) {
            std::fill(row, row + v.left, vec{});
            std::fill(row + v.left + v.width, row + v.columns, vec{});
        }
        std::fill(row, first + plane(v), vec{});
    }
}

// ---------------------------------------------------------------------------------------------------------- products

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

// ---------------------------------------------------------------------------------------------------------- Winograd
// F(4x4, 3x3), Lavin and Gray 2016 (arXiv:1509.09308), at the points 0, 1, -1, 2, -2 and infinity.

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
    i64 in, out, added, first, tiles, height, width;
    i64 reads() const { return tiles * TILE + SIDE - TILE; }
};

static i64 apart(i64 vectors) {  // distance between matrices that are used together: never a multiple of a page
    const i64 line = LANES < 16 ? 16 / LANES : 1;
    return ((vectors + line - 1) / line | 1) * line;
}

static void transform_down(const vec *image, i64 row, i64 width, vec *to, i64 distance) {
    for (i64 x = 0; x < width; x++) {
        vec d[SIDE], t[SIDE];
        UNROLL for (int y = 0; y < SIDE; y++) d[y] = image[y * row + x];
        forward(d, t);
        UNROLL for (int y = 0; y < SIDE; y++) to[y * distance + x] = t[y];
    }
}

static void transform_across(const vec *half, i64 tiles, vec *to, i64 distance) {
    for (i64 i = 0; i < tiles; i++) {
        vec d[SIDE], t[SIDE];
        UNROLL for (int x = 0; x < SIDE; x++) d[x] = half[i * TILE + x];
        forward(d, t);
        UNROLL for (int x = 0; x < SIDE; x++) to[x * distance + i] = t[x];
    }
}

static void back_across(const vec *from, i64 distance, i64 tiles, vec *half) {
    for (i64 i = 0; i < tiles; i++) {
        vec m[SIDE], s[TILE];
        UNROLL for (int x = 0; x < SIDE; x++) m[x] = from[x * distance + i];
        backward(m, s);
        UNROLL for (int x = 0; x < TILE; x++) half[i * TILE + x] = s[x];
    }
}

template <bool ADD>
static void back_down(const vec *half, i64 distance, const Run &run, vec *image, i64 row, const vec *added,
                      i64 added_row, vec bias, vec low) {
    for (i64 x = 0; x < run.width; x++) {
        vec m[SIDE], s[TILE];
        UNROLL for (int y = 0; y < SIDE; y++) m[y] = half[y * distance + x];
        backward(m, s);
        UNROLL for (int y = 0; y < TILE; y++) if (y < run.height) {
            const vec sum = ADD ? s[y] + bias + added[y * added_row + x] : s[y] + bias;
            image[y * row + x] = larger(low, sum);
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

static i64 runs_of(const Conv &conv, const Value &in, const Value &out, const Value *added, i64 first, i64 count,
                   Run *runs) {
    const i64 across = (out.width + TILE - 1) / TILE, down = (out.height + TILE - 1) / TILE;
    i64 n = 0;
    for (i64 i = 0; i < count; i += runs[n++].tiles) {
        const i64 tile = first + i, group = tile / (across * down);
        const i64 y = tile / across % down * TILE, x = tile % across * TILE;
        const i64 tiles = std::min(count - i, across - tile % across);
        runs[n] = {offset(in, group, y - conv.top, x - conv.left), offset(out, group, y, x),
                   added ? offset(*added, group, y, x) : 0, i, tiles, std::min<i64>(TILE, out.height - y),
                   std::min(TILE * tiles, out.width - x)};
    }
    return n;
}

static const i64 MOST_TILES = 64;

static void winograd(const Conv &conv, const Value &in, const Value &out, const Value *added, i64 begin, i64 end,
                     vec *memory) {
    const i64 inputs = conv.inputs, outputs = conv.outputs;
    const i64 tiles = ((out.width + TILE - 1) / TILE) * ((out.height + TILE - 1) / TILE);
    const Space space(conv);
    vec *half = memory, *transformed = half + SIDE * space.half, *products = transformed + SIDE * space.transformed;
    vec *done = products + SIDE * space.products;
    const vec low = floor_of(conv.relu);
    Run runs[MOST_TILES];
    for (i64 first = begin * tiles; first < end * tiles; first += conv.tiles) {
        const i64 count = std::min(conv.tiles, end * tiles - first);
        const i64 n = runs_of(conv, in, out, added, first, count, runs);
        i64 width = 0;
        for (i64 i = 0; i < n; i++) width += runs[i].reads();
        for (i64 c = 0; c < inputs; c++) {
            const vec *image = reinterpret_cast<vec *>(in.data) + c * plane(in);
            vec *to = half + c * width;
            for (i64 i = 0; i < n; to += runs[i++].reads())
                transform_down(image + runs[i].in, in.columns, runs[i].reads(), to, space.half);
        }
        for (int y = 0; y < SIDE; y++) {
            const vec *from = half + y * space.half;
            for (i64 c = 0; c < inputs; c++)
                for (i64 i = 0; i < n; from += runs[i++].reads())
                    transform_across(from, runs[i].tiles, transformed + c * count + runs[i].first, space.transformed);
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
        for (i64 o = 0; o < outputs; o++) {
            const vec bias = splat(conv.bias ? conv.bias[o] : 0.0f);
            vec *image = reinterpret_cast<vec *>(out.data) + o * plane(out);
            const vec *plus = added ? reinterpret_cast<vec *>(added->data) + o * plane(*added) : nullptr;
            for (i64 i = 0; i < n; i++) {
                const vec *from = done + (o * count + runs[i].first) * TILE;
                vec *to = image + runs[i].out;
                if (added)
                    back_down<true>(from, space.done, runs[i], to, out.columns, plus + runs[i].added, added->columns,
                                    bias, low);
                else
                    back_down<false>(from, space.done, runs[i], to, out.columns, nullptr, 0, bias, low);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ direct

template <int O, int C>
static void direct_block(const Conv &conv, const float *weights, const vec *in, const int32_t *offsets, i64 depth,
                         i64 first, vec *out, i64 out_plane, const vec *added, i64 added_plane, vec low) {
    vec sum[O][C];
    product<O, C, true>(weights, in, 0, conv.stride_width, offsets, depth, sum);
    UNROLL for (int o = 0; o < O; o++) {
        const vec bias = splat(conv.bias ? conv.bias[first + o] : 0.0f);
        UNROLL for (int c = 0; c < C; c++) {
            sum[o][c] += bias;
            if (added) sum[o][c] += added[o * added_plane + c];
            out[o * out_plane + c] = larger(low, sum[o][c]);
        }
    }
}

static void direct(const Conv &conv, const Value &in, const Value &out, const Value *added, i64 begin, i64 end,
                   int32_t *offsets) {
    i64 depth = 0;
    for (i64 c = 0; c < conv.inputs; c++)
        for (i64 y = 0; y < conv.kernel_height; y++)
            for (i64 x = 0; x < conv.kernel_width; x++)
                offsets[depth++] = c * plane(in) + y * conv.dilation_height * in.columns + x * conv.dilation_width;
    const vec low = floor_of(conv.relu);
    const i64 out_plane = plane(out), added_plane = added ? plane(*added) : 0;
    for (i64 g = begin; g < end; g++)
        for (i64 y = 0; y < out.height; y++)
            for (i64 x = 0; x < out.width; x += WIDE) {
                const vec *from = at(in, g, 0, y * conv.stride_height - conv.top, x * conv.stride_width - conv.left);
                const i64 wide = std::min<i64>(WIDE, out.width - x);
                each_block(conv.outputs, [&](auto O, i64 o) {
                    const float *weights = conv.weights + o * depth;
                    vec *to = at(out, g, o, y, x);
                    const vec *plus = added ? at(*added, g, o, y, x) : nullptr;
                    auto block = wide == 3 ? direct_block<O.value, 3> : wide == 2 ? direct_block<O.value, 2>
                                                                                  : direct_block<O.value, 1>;
                    block(conv, weights, from, offsets, depth, o, to, out_plane, plus, added_plane, low);
                });
            }
}

// -------------------------------------------------------------------------------------------------- rest, statistics

static void finish_group(const Value &v, const Rest &rest, i64 g) {
    const vec low = floor_of(rest.relu);
    for (i64 c = 0; c < v.channels; c++) {
        const vec scale = splat(rest.scale[c]), shift = splat(rest.shift[c]);
        for (i64 y = 0; y < v.height; y++) {
            vec *row = at(v, g, c, y, 0);
            if (rest.added) {
                const vec *added = at(*rest.added, g, c, y, 0);
                for (i64 x = 0; x < v.width; x++) row[x] = larger(low, row[x] * scale + shift + added[x]);
            } else {
                for (i64 x = 0; x < v.width; x++) row[x] = larger(low, row[x] * scale + shift);
            }
        }
    }
}

// Adds sums of (x - centre) and of its square over one channel of one group; lanes past the last image count nothing.
static void add_moments(const Value &v, i64 g, i64 c, i64 images, float centre, double &sum, double &squares) {
    vec counts = vec{}, middle = splat(centre);
    for (i64 lane = 0; lane < std::min<i64>(LANES, images - g * LANES); lane++) counts[lane] = 1;
    for (i64 y = 0; y < v.height; y++) {
        const vec *row = at(v, g, c, y, 0);
        vec s[4] = {}, q[4] = {};
        i64 x = 0;
        for (; x + 4 <= v.width; x += 4) UNROLL for (int i = 0; i < 4; i++) {
            const vec d = (row[x + i] - middle) * counts;
            s[i] += d, q[i] += d * d;
        }
        for (; x < v.width; x++) {
            const vec d = (row[x] - middle) * counts;
            s[0] += d, q[0] += d * d;
        }
        const vec row_sum = (s[0] + s[1]) + (s[2] + s[3]), row_squares = (q[0] + q[1]) + (q[2] + q[3]);
        for (int lane = 0; lane < LANES; lane++) sum += row_sum[lane], squares += row_squares[lane];
    }
}

// The mean of the first group serves as the centre, so that the squares lose nothing to a large mean.
static void gather(const Value &v, i64 g, i64 images, float *centres, double *sums, double *squares) {
    for (i64 c = 0; c < v.channels; c++) {
        if (g == 0) {
            double sum = 0, unused = 0;
            add_moments(v, 0, c, images, 0, sum, unused);
            centres[c] = sum / (std::min<i64>(LANES, images) * v.height * v.width);
        }
        add_moments(v, g, c, images, centres[c], sums[c], squares[c]);
    }
}

// --------------------------------------------------------------------------------------------------------- interface

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
    for (i64 g = 0; g < groups; g++) finish_group(*value, *rest, g);
}

void convolve(const Conv *conv, const Value *in, const Value *out, const Value *added, i64 groups, void *memory) {
    for (i64 g = 0; g < groups; g++) clear_halo(*out, g);
    if (conv->tiles) winograd(*conv, *in, *out, added, 0, groups, static_cast<vec *>(memory));
    else direct(*conv, *in, *out, added, 0, groups, static_cast<int32_t *>(memory));
}

// The rest of ``in`` (or null) is computed in place, group by group, before it is read; then the moments of ``out``:
// centres, and the sums of (x - centre) and of its square, which start at zero.
void convolve_measured(const Conv *conv, const Value *in, const Rest *rest, const Value *out, i64 images,
                       float *centres, double *sums, double *squares, void *memory) {
    for (i64 g = 0; g * LANES < images; g++) {
        if (rest) finish_group(*in, *rest, g);
        clear_halo(*out, g);
        if (conv->tiles) winograd(*conv, *in, *out, nullptr, g, g + 1, static_cast<vec *>(memory));
        else direct(*conv, *in, *out, nullptr, g, g + 1, static_cast<int32_t *>(memory));
        gather(*out, g, images, centres, sums, squares);
    }
}
}
