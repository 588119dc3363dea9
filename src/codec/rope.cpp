#include "codec/rope.h"

namespace larder {

namespace {

// Products and sums in sequence; the build forbids contraction, so each rounds once.
double polynomial(double z, const double* c, int n) noexcept {
    double p = c[n - 1];
    for (int i = n - 2; i >= 0; --i) p = p * z + c[i];
    return p;
}

// Taylor coefficients of sin(r)/r and cos(r) in r^2: enough terms for |r| <= pi/4 at double precision.
constexpr int n_terms = 9;
struct Series {
    double sine[n_terms], cosine[n_terms];
};
constexpr Series make_series() {
    Series t{};
    double f = 1, sign = 1;
    for (int i = 0; i < n_terms; ++i, sign = -sign) {
        t.cosine[i] = sign / f;
        f *= 2 * i + 1;
        t.sine[i] = sign / f;
        f *= 2 * i + 2;
    }
    return t;
}
constexpr Series series = make_series();

}  // namespace

void sin_cos(double x, double& s, double& c) noexcept {
    // pi/2 in three parts of 33, 33 and 53 bits: n times each of the first two is exact for n < 2^20, the rest is tiny.
    constexpr double p1 = 0x1.921fb544p+0, p2 = 0x1.0b4611a6p-34, p3 = 0x1.3198a2e037073p-69;
    const double n = __builtin_floor(x * 0x1.45f306dc9c883p-1 + 0.5);
    const double r = ((x - n * p1) - n * p2) - n * p3;
    const double z = r * r;
    const double sr = r * polynomial(z, series.sine, n_terms), cr = polynomial(z, series.cosine, n_terms);
    switch (uint64_t(n) & 3) {
    case 0:
        s = sr, c = cr;
        break;
    case 1:
        s = cr, c = -sr;
        break;
    case 2:
        s = -sr, c = -cr;
        break;
    default:
        s = -cr, c = sr;
        break;
    }
}

void rope_rotate(const Kernels& k, const Rope& r, uint64_t first, uint32_t n, uint32_t heads, uint32_t dim,
                 int direction, float* x, float* scratch) noexcept {
    const uint32_t pairs = r.dims / 2;
    float *cosines = scratch, *sines = scratch + size_t(tile_tokens) * pairs;
    for (uint32_t i = 0; i < pairs; ++i) {
        // One evaluation per tile and pair; the tokens after it by adding angles.
        double s, c, ds, dc;
        sin_cos(double(first) * r.frequency[i], s, c);
        sin_cos(r.frequency[i], ds, dc);
        for (uint32_t t = 0; t < n; ++t) {
            cosines[size_t(t) * pairs + i] = float(c);
            sines[size_t(t) * pairs + i] = float(direction < 0 ? -s : s);
            const double next = c * dc - s * ds;
            s = s * dc + c * ds;
            c = next;
        }
    }
    for (uint32_t t = 0; t < n; ++t)
        for (uint32_t h = 0; h < heads; ++h)
            k.rotate(x + (size_t(t) * heads + h) * dim, cosines + size_t(t) * pairs, sines + size_t(t) * pairs, pairs,
                     r.interleaved);
}

}  // namespace larder
