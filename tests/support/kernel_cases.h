// What each kernel of the codec makes of random shapes and data, as bytes to compare: between the instruction sets of
// one processor, and by a digest between processors. Needs no test library, so that it also builds for a processor that
// has none.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/hash.h"
#include "base/numeric.h"
#include "codec/kernels.h"

namespace kernel_cases {

using namespace larder;

inline void require_at(bool good, const char* what, int line) {
    if (good) return;
    std::fprintf(stderr, "kernel_cases.h:%d: %s does not hold\n", line, what);
    std::abort();
}
#define require(x) require_at(x, #x, __LINE__)

using Bytes = std::vector<std::byte>;

inline Bytes noise(Rng& r, size_t n) {
    Bytes b(n + 64);  // kernels may read whole vectors
    for (auto& x : b) x = std::byte(uint8_t(r.next()));
    return b;
}

// Finite floats of all sizes, many of them equal, both zeros among them.
inline std::vector<float> floats(Rng& r, size_t n) {
    std::vector<float> x(n + 16);
    const uint32_t kind = uint32_t(r.below(3));
    for (float& f : x) {
        const uint32_t u = uint32_t(r.next());
        f = kind == 0   ? float(int(u % 2001) - 1000) / 64
            : kind == 1 ? bits_to_float((u & 0x80000000u) | (u & 0x7fffffffu) % 0x7e800000u)
                        : bits_to_float(u & 0x80000000u) * (u & 1);
    }
    return x;
}

template <class T> void append(Bytes& out, const T* p, size_t n) {
    const auto* b = reinterpret_cast<const std::byte*>(p);
    out.insert(out.end(), b, b + n * sizeof(T));
}

inline larder_dtype dtype(Rng& r) {
    static constexpr larder_dtype all[] = {LARDER_DTYPE_F16, LARDER_DTYPE_BF16, LARDER_DTYPE_F32};
    return all[r.below(3)];
}
inline size_t bytes_of(larder_dtype t) {
    return t == LARDER_DTYPE_F32 ? 4 : 2;
}
inline uint32_t some(Rng& r) {
    return uint32_t(1 + r.below(r.below(4) ? 70 : 400));
}

// Tables as fitted ones are and as hostile ones may be, and channels that use them.
struct Tables {
    std::vector<RansTable> tables;
    std::vector<uint8_t> ids;
    explicit Tables(Rng& r) : tables(1 + r.below(5)), ids(r.below(3) ? 1 + r.below(80) : 1) {
        for (RansTable& t : tables) {
            TableSpec s{int16_t(r.next()), 0, uint8_t(1 + r.below(rans_max_symbols)), {}};
            uint32_t left = 256;
            for (uint32_t i = 0; i < s.n; ++i) {
                const uint32_t most = std::min(left - (s.n - 1 - i), 255u);
                s.freq[i] = uint8_t(1 + r.below(r.below(2) ? most : std::min(most, 256u / s.n)));
                left -= s.freq[i];
            }
            t.expand(s);
        }
        for (uint8_t& id : ids) id = uint8_t(r.below(tables.size()));
    }
};

struct Rows {
    RansJob job{};
    std::vector<uint8_t> symbols;
    std::vector<uint16_t> words;
    Rows(Rng& r, const Tables& t) {
        job.tables = t.tables.data();
        job.ids = t.ids.data();
        job.period = uint32_t(t.ids.size());
        job.n_full_rows = uint32_t(r.below(200));
        job.tail_rows = uint32_t(r.below(2) * r.below(40));
        job.tail_lanes = uint32_t(1 + r.below(31));
        symbols.assign(size_t(job.n_rows()) * rans_lanes + 64, 0);
        for (uint32_t row = 0; row < job.n_rows(); ++row)
            for (uint32_t l = 0; l < rans_lanes; ++l)
                symbols[row * rans_lanes + l] = t.tables[t.ids[row % t.ids.size()]].lut[r.below(256)];
        job.symbols = symbols.data();
        for (uint32_t& x : job.state) x = rans_floor | uint32_t(r.next() & 0xffff);
    }
};

inline void rans_case(const Kernels& k, Rng& r, Bytes& out) {
    const uint32_t n = uint32_t(1 + r.below(rans_ways));
    const Tables t(r);
    std::vector<Rows> rows;
    for (uint32_t i = 0; i < n; ++i) rows.emplace_back(r, t);
    RansJob jobs[rans_ways];
    RansJob* list[rans_ways];
    std::vector<std::vector<uint8_t>> back(n);
    for (uint32_t i = 0; i < n; ++i) {
        Rows& w = rows[i];
        w.words.resize(size_t(w.job.n_rows()) * rans_lanes + 64);
        jobs[i] = w.job;
        jobs[i].symbols = w.symbols.data();
        const size_t n_words = k.rans_encode(jobs[i], w.words.data() + w.words.size());
        append(out, w.words.data() + w.words.size() - n_words, n_words);
        append(out, jobs[i].state, rans_lanes);
        // Sometimes damaged: shorter, or with other words. What comes out must still be the same everywhere.
        const size_t cut = r.below(6) ? 0 : r.below(n_words + 1);
        if (r.below(6) == 0 && n_words) w.words[w.words.size() - 1 - r.below(n_words)] ^= uint16_t(r.next());
        back[i].assign(w.symbols.size(), 0xee);
        jobs[i].symbols = back[i].data();
        jobs[i].words = reinterpret_cast<const std::byte*>(w.words.data() + w.words.size() - n_words);
        jobs[i].n_words = n_words - cut;
        list[i] = &jobs[i];
    }
    k.rans_decode(list, n);
    for (uint32_t i = 0; i < n; ++i) {
        append(out, &jobs[i].at, 1);
        append(out, &jobs[i].overrun, 1);
        append(out, jobs[i].state, rans_lanes);
        append(out, back[i].data(), back[i].size());
    }
}

inline void conversion_case(const Kernels& k, Rng& r, Bytes& out) {
    const uint32_t n = some(r);
    const larder_dtype t = dtype(r);
    const Bytes src = noise(r, n * bytes_of(t));
    std::vector<float> x(n + 16, 7.0f);
    k.to_f32(src.data(), t, x.data(), n);
    append(out, x.data(), x.size());
    Bytes back(n * 4 + 64, std::byte{1});
    k.from_f32(floats(r, n).data(), t, back.data(), n);
    append(out, back.data(), back.size());
    std::vector<float> scales(n + 16, 7.0f);
    const bool good =
        k.scales_to_f32(src.data(), r.below(2) ? LARDER_DTYPE_F16 : LARDER_DTYPE_BF16, scales.data(), n / 2);
    append(out, &good, 1);
    append(out, scales.data(), scales.size());
}

inline void transpose_case(const Kernels& k, Rng& r, Bytes& out) {
    const uint32_t rows = some(r), columns = some(r);
    const size_t from = columns + r.below(9), to = rows + r.below(9);
    const Bytes src = noise(r, rows * from);
    Bytes dst(columns * to + 64, std::byte{1});
    k.transpose8(reinterpret_cast<const uint8_t*>(src.data()), from, reinterpret_cast<uint8_t*>(dst.data()), to, rows,
                 columns);
    append(out, dst.data(), dst.size());
}

inline void split_case(const Kernels& k, Rng& r, Bytes& out) {
    const uint32_t n = r.below(2) ? some(r) : 32 * uint32_t(1 + r.below(20));
    const larder_dtype t = dtype(r);
    Bytes src = noise(r, n * bytes_of(t)), rest(rest_bytes(t, n) + 64, std::byte{1}), back(n * 4 + 64, std::byte{1});
    std::vector<int16_t> q(n + 64, 3);
    k.split(src.data(), t, q.data(), rest.data(), n);
    append(out, q.data(), q.size());
    append(out, rest.data(), rest.size());
    k.join(q.data(), rest.data(), t, back.data(), n);
    require(!std::memcmp(back.data(), src.data(), n * bytes_of(t)));
    append(out, back.data(), back.size());
}

// Against the steps that it replaces; a kernel that has none is that.
inline void restore_case(const Kernels& k, Rng& r, Bytes& out) {
    const uint32_t width = 64 * uint32_t(1 + r.below(5)), n = tile_tokens * width;
    const larder_dtype t = r.below(2) ? LARDER_DTYPE_F16 : LARDER_DTYPE_BF16;
    const Bytes rest = noise(r, rest_bytes(t, n));
    std::vector<uint8_t> classes(n + 64), base8(width), n8(width), rows(n);
    std::vector<int16_t> base(width), q(n + 64);
    std::vector<uint16_t> shift(width, 0), limit(width);
    for (uint32_t c = 0; c < width; ++c) {
        base[c] = int16_t(r.next());
        limit[c] = uint16_t(1 + r.below(15));
        base8[c] = uint8_t(base[c]), n8[c] = uint8_t(limit[c]);
    }
    const uint64_t rare = 1 + r.below(300);
    for (uint32_t i = 0; i < n; ++i)
        classes[i] = r.below(rare) ? uint8_t(r.below(limit[i / tile_tokens])) : n8[i / tile_tokens];
    const size_t stride = 2 * width + 16 * r.below(3);
    Bytes dst(stride * tile_tokens + 64, std::byte{1});
    std::vector<uint64_t> escapes(n / 64, 1);
    bool any = false;
    if (k.restore) {
        std::byte* to[tile_tokens];
        for (uint32_t i = 0; i < tile_tokens; ++i) to[i] = dst.data() + i * stride;
        any = k.restore(classes.data(), base8.data(), n8.data(), rest.data(), t, to, to, escapes.data(), width);
    } else {
        Bytes tile(2 * n);
        k.transpose8(classes.data(), tile_tokens, rows.data(), width, width, tile_tokens);
        std::fill(escapes.begin(), escapes.end(), 0);
        for (uint32_t i = 0; i < n; ++i)
            if (rows[i] == n8[i % width]) any = true, escapes[i / 64] |= uint64_t(1) << i % 64;
        for (uint32_t i = 0; i < tile_tokens; ++i)
            k.declassify(rows.data() + i * width, nullptr, {base.data(), shift.data(), limit.data()},
                         q.data() + i * width, width);
        k.join(q.data(), rest.data(), t, tile.data(), n);
        for (uint32_t i = 0; i < tile_tokens; ++i)
            std::memcpy(dst.data() + i * stride, tile.data() + 2 * i * width, 2 * width);
    }
    append(out, &any, 1);
    append(out, escapes.data(), escapes.size());
    append(out, dst.data(), dst.size());
}

inline void classes_case(const Kernels& k, Rng& r, Bytes& out) {
    const uint32_t n = some(r);
    std::vector<int16_t> base(n + 16), q(n + 16), back(n + 32, 9);
    std::vector<uint16_t> shift(n + 16), limit(n + 16);
    const uint32_t max_k = r.below(2) ? 0 : uint32_t(1 + r.below(TableSpec::max_k));
    for (uint32_t i = 0; i < n; ++i) {
        base[i] = int16_t(int(r.below(40)) - 20);
        shift[i] = uint16_t(r.below(max_k + 1));
        limit[i] = uint16_t(1 + r.below(15));
        q[i] = r.below(20) ? int16_t((base[i] + int(r.below(limit[i]))) * (1 << shift[i])) : int16_t(r.next());
    }
    const ChannelCodes codes{base.data(), shift.data(), limit.data()};
    std::vector<uint8_t> symbols(n + 32, 9), low(n + 32, 9);
    uint8_t* const planes = max_k ? low.data() : nullptr;
    const bool escaped = k.classify(q.data(), codes, symbols.data(), planes, n);
    const bool again = k.declassify(symbols.data(), planes, codes, back.data(), n);
    std::vector<uint32_t> at(n + 8, 9);
    const uint32_t found = k.find_escapes(symbols.data(), limit.data(), n, at.data());
    require(escaped == again && escaped == (found != 0));
    append(out, symbols.data(), symbols.size());
    append(out, low.data(), low.size());
    append(out, back.data(), back.size());
    append(out, at.data(), found);
}

inline void quantize_case(const Kernels& k, Rng& r, Bytes& out) {
    static constexpr uint32_t groups[] = {1, 2, 4, 8, 16, 32, 64, 3, 20};
    const uint32_t g = groups[r.below(std::size(groups))], n = g * uint32_t(1 + r.below(1 + 200 / g)), m = n / g;
    const auto x = floats(r, n), mid = floats(r, m), inverse = floats(r, m);
    std::vector<float> lo(n + 16, 5.0f), hi(n + 16, -5.0f), y(n + 16, 1.0f);
    k.group_range(x.data(), n, g, lo.data(), hi.data());
    append(out, lo.data(), m);
    append(out, hi.data(), m);
    k.column_range(x.data(), n, lo.data(), hi.data());
    append(out, lo.data(), lo.size());
    append(out, hi.data(), hi.size());
    std::vector<int16_t> q(n + 16, 9);
    const float limit = float(1u << r.below(15));
    k.quantize(x.data(), mid.data(), inverse.data(), g, r.below(2) ? -limit : 0, limit, q.data(), n);
    append(out, q.data(), q.size());
    k.dequantize(q.data(), mid.data(), inverse.data(), g, y.data(), n);
    append(out, y.data(), y.size());
}

inline void rotate_case(const Kernels& k, Rng& r, Bytes& out) {
    const uint32_t pairs = some(r);
    auto x = floats(r, 2 * pairs);
    std::vector<float> cosines(pairs + 16), sines(pairs + 16);
    for (float& c : cosines) c = float(int(r.below(2001)) - 1000) / 1000;
    for (float& c : sines) c = float(int(r.below(2001)) - 1000) / 1000;
    k.rotate(x.data(), cosines.data(), sines.data(), pairs, r.below(2));
    append(out, x.data(), x.size());
}

inline void pack_case(const Kernels& k, Rng& r, Bytes& out) {
    const uint32_t bits = uint32_t(1 + r.below(8)), n = some(r);
    std::vector<int16_t> q(n + 32, 9), back(n + 32, 9);
    for (uint32_t i = 0; i < n; ++i) q[i] = int16_t(r.below(uint64_t(1) << bits));
    Bytes packed(n + 64, std::byte{1});
    k.pack(q.data(), bits, packed.data(), n);
    append(out, packed.data(), packed.size());
    k.unpack(packed.data(), bits, back.data(), n);
    require(!std::memcmp(back.data(), q.data(), n * sizeof q[0]));
    append(out, back.data(), back.size());
}

struct Case {
    const char* name;
    void (*run)(const Kernels&, Rng&, Bytes&);
};
inline constexpr Case all[] = {{"rans", rans_case},
                               {"conversions", conversion_case},
                               {"transpose8", transpose_case},
                               {"split and join", split_case},
                               {"restore", restore_case},
                               {"classes", classes_case},
                               {"quantize", quantize_case},
                               {"rotate", rotate_case},
                               {"pack", pack_case}};

#undef require

// FNV-1a over the bytes of n cases that never change. Whatever the processor and compiler, it is this.
inline constexpr uint64_t n_pinned = 20000, pinned_digest = 0xccb3946100c92222;
inline uint64_t digest(const Kernels& k) {
    Rng r(20260101);
    uint64_t h = 0xcbf29ce484222325u;
    for (uint64_t i = 0; i < n_pinned; ++i) {
        const Case& c = all[r.below(std::size(all))];
        Rng data(r.next());
        Bytes out;
        c.run(k, data, out);
        for (std::byte b : out) h = (h ^ uint64_t(b)) * 0x100000001b3u;
    }
    return h;
}

}  // namespace kernel_cases
