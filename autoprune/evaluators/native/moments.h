// What calibration needs beside convolutions: statistics of a value, and its BatchNorm once they are known.

#pragma once

#include "values.h"

static void finish_rows(const Value &v, const Rest &rest, i64 g, i64 begin, i64 end) {
    const vec low = floor_of(rest.relu);
    for (i64 c = 0; c < v.channels; c++) {
        const vec scale = splat(rest.scale[c]), shift = splat(rest.shift[c]);
        for (i64 y = begin; y < end; y++) {
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

struct Moments {
    float *centres;
    double *sums, *squares;  // of x - centre and of its square
};

// Over some rows of one group; lanes past the last image count nothing. Sums of more than a row are in double.
static void add_moments(const Value &v, i64 g, i64 begin, i64 end, i64 c, i64 images, float centre, double &sum,
                        double &squares) {
    vec counts = vec{}, middle = splat(centre);
    for (i64 lane = 0; lane < std::min<i64>(LANES, images - g * LANES); lane++) counts[lane] = 1;
    for (i64 y = begin; y < end; y++) {
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

// The mean of the first rows serves as the centre, so that the squares lose nothing to a large mean.
static void gather(const Value &v, i64 g, i64 begin, i64 end, i64 images, const Moments &to) {
    for (i64 c = 0; c < v.channels; c++) {
        if (g == 0 && begin == 0) {
            double sum = 0, unused = 0;
            add_moments(v, 0, 0, end, c, images, 0, sum, unused);
            to.centres[c] = sum / (std::min<i64>(LANES, images) * end * v.width);
        }
        add_moments(v, g, begin, end, c, images, to.centres[c], to.sums[c], to.squares[c]);
    }
}
