#include "codec/rans.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace larder {

size_t TableSpec::write(std::byte* out) const noexcept {
    store_le<int16_t>(out, base);
    store_le<uint8_t>(out + 2, k);
    store_le<uint8_t>(out + 3, n);
    std::memcpy(out + 4, freq, n);
    return n_bytes();
}

bool TableSpec::read(ByteReader& in) noexcept {
    base = in.get<int16_t>();
    k = in.get<uint8_t>();
    n = in.get<uint8_t>();
    if (!in.ok() || n == 0 || n > rans_max_symbols || k > max_k) return false;
    const ByteSpan f = in.take(n);
    if (f.size() != n) return false;
    std::memset(freq, 0, sizeof freq);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; ++i) {
        if (f[i] == std::byte{0}) return false;
        sum += freq[i] = uint8_t(f[i]);
    }
    return sum <= 256;
}

void RansTable::expand(const TableSpec& s) noexcept {
    base = s.base;
    k = s.k;
    n = s.n;
    reserved = 0;
    uint32_t start = 0;
    for (uint32_t i = 0; i < 16; ++i) {
        const uint32_t f = i < s.n ? s.freq[i] : i == s.n ? 256 - start : 0;
        fc[i] = start | f << 16;
        freq8[i] = uint8_t(f);
        start8[i] = uint8_t(i <= s.n ? start : 0);
        bound8[i] = uint8_t((i >= 1 && i <= s.n ? start - 1 : 255) ^ 0x80);
        inverse[i] = f ? 1.0 / f * (1 + 0x1p-50) : 0;
        for (uint32_t j = 0; j < f; ++j) lut[start + j] = uint8_t(i);
        start += f;
    }
}

void rans_decode_scalar(RansJob& job, uint32_t first_row) noexcept {
    uint32_t id_at = first_row % job.period;
    for (uint32_t r = first_row; r < job.n_rows(); ++r) {
        const RansTable& t = job.tables[job.ids[id_at]];
        if (++id_at == job.period) id_at = 0;
        const uint32_t lanes = r < job.n_full_rows ? rans_lanes : job.tail_lanes;
        uint8_t* out = job.symbols + size_t(r) * rans_lanes;
        for (uint32_t l = 0; l < lanes; ++l) {
            uint32_t x = job.state[l];
            const uint32_t slot = x & 255, y = t.lut[slot];
            out[l] = uint8_t(y);
            x = (t.fc[y] >> 16) * (x >> 8) + slot - (t.fc[y] & 0xffff);
            if (x < rans_floor) {
                if (job.at == job.n_words) {
                    job.overrun = true;
                    return;
                }
                x = x << 16 | load_le<uint16_t>(job.words + 2 * job.at++);
            }
            job.state[l] = x;
        }
    }
}

size_t rans_encode_scalar(RansJob& job, uint16_t* words_end) noexcept {
    uint16_t* p = words_end;
    for (uint32_t r = job.n_rows(); r-- > 0;) {
        const RansTable& t = job.tables[job.ids[r % job.period]];
        const uint32_t lanes = r < job.n_full_rows ? rans_lanes : job.tail_lanes;
        const uint8_t* in = job.symbols + size_t(r) * rans_lanes;
        for (uint32_t l = lanes; l-- > 0;) {
            const uint32_t f = t.fc[in[l]] >> 16, start = t.fc[in[l]] & 0xffff;
            uint32_t x = job.state[l];
            if (x >= uint64_t(f) << 24) {
                *--p = uint16_t(x);
                x >>= 16;
            }
            job.state[l] = (x / f << 8) + x % f + start;
        }
    }
    return size_t(words_end - p);
}

uint32_t log2_q16(uint32_t v) noexcept {
    const uint32_t whole = 31 - uint32_t(std::countl_zero(v));
    uint64_t m = uint64_t(v) << (31 - whole);  // [2^31, 2^32)
    uint32_t fraction = 0;
    for (int i = 0; i < 16; ++i) {
        m = m * m >> 31;
        const uint32_t bit = uint32_t(m >> 32);
        fraction = fraction << 1 | bit;
        m >>= bit;
    }
    return whole << 16 | fraction;
}

namespace {

constexpr uint32_t max_values = 2048;
constexpr uint64_t escape_bits_q16 = uint64_t(16) << 16;

struct Log2Of256 {
    uint32_t cost[257];  // of one symbol with frequency f: 8 - log2 f
    Log2Of256() noexcept {
        cost[0] = 64u << 16;
        for (uint32_t f = 1; f <= 256; ++f) cost[f] = (8u << 16) - log2_q16(f);
    }
};
const uint32_t* symbol_cost() noexcept {
    static const Log2Of256 table;
    return table.cost;
}

// Frequencies that sum to 256 - (at least 1 for the escape), each counted symbol at least 1. Integers only.
void normalise(const uint64_t* counts, uint32_t n, uint64_t escapes, bool closed, uint8_t* freq) noexcept {
    uint64_t total = escapes;
    for (uint32_t i = 0; i < n; ++i) total += counts[i];
    uint32_t f[16], sum = 0;
    uint64_t c[16];
    n -= closed;  // then the last symbol stands where the escape does otherwise
    for (uint32_t i = 0; i <= n; ++i) {
        c[i] = i < n || closed ? counts[i] : escapes;
        f[i] = total ? uint32_t((c[i] * 512 + total) / (2 * total)) : 0;
        if (f[i] == 0 && (c[i] || i == n)) f[i] = 1;
        sum += f[i];
    }
    // Give or take one at a time where it gains most or hurts least: the derivative of c log2 f, compared as fractions.
    while (sum != 256) {
        const bool more = sum < 256;
        uint32_t best = 16;
        for (uint32_t i = 0; i <= n; ++i) {
            if (more ? (c[i] == 0 && i < n) : f[i] <= 1) continue;
            if (best == 16) {
                best = i;
                continue;
            }
            const uint64_t di = more ? 2 * f[i] + 1 : 2 * f[i] - 1, db = more ? 2 * f[best] + 1 : 2 * f[best] - 1;
            const bool better = more ? c[i] * db > c[best] * di : c[i] * db < c[best] * di;
            if (better) best = i;
        }
        f[best] += more ? 1 : uint32_t(-1);
        sum += more ? 1 : uint32_t(-1);
    }
    for (uint32_t i = 0; i < n + closed; ++i) freq[i] = uint8_t(f[i]);
}

// The best table with k low bits split off; `counts` are already shifted right by k.
uint64_t fit_window(const uint64_t* counts, uint32_t n_values, int32_t first, uint32_t k, TableSpec& out) noexcept {
    uint64_t total = 0, inside = 0, best_inside = 0;
    uint32_t best = 0;
    for (uint32_t i = 0; i < n_values; ++i) {
        total += counts[i];
        inside += counts[i];
        if (i >= rans_max_symbols) inside -= counts[i - rans_max_symbols];
        if (inside > best_inside) best_inside = inside, best = i;
    }
    LARDER_ASSERT(n_values > 0);
    uint32_t lo = best + 1 >= rans_max_symbols ? best + 1 - rans_max_symbols : 0, hi = best;
    // Ends of the window are left to the escape when giving them 1/256 would cost the others more than the escapes
    // cost.
    uint64_t escapes = total - best_inside;
    auto rare = [&](uint32_t i) { return counts[i] * 2840 < total; };
    while (lo < hi && rare(lo)) escapes += counts[lo++];
    while (hi > lo && rare(hi)) escapes += counts[hi--];
    out = TableSpec{int16_t(first + int32_t(lo)), uint8_t(k), uint8_t(hi - lo + 1), {}};
    // A symbol inside the window keeps a frequency even when it was not seen: samples are not the data.
    uint64_t c[rans_max_symbols] = {};
    for (uint32_t i = 0; i < out.n; ++i) c[i] = counts[lo + i] * 16 + 1;
    normalise(c, out.n, escapes * 16 + 1, false, out.freq);
    const uint32_t* cost = symbol_cost();
    uint64_t bits = 0;
    uint32_t used = 0;
    for (uint32_t i = 0; i < out.n; ++i) bits += counts[lo + i] * cost[out.freq[i]], used += out.freq[i];
    return bits + escapes * (cost[256 - used] + escape_bits_q16) + total * (uint64_t(k) << 16);
}

}  // namespace

uint64_t fit_table(const uint32_t* counts, uint32_t n_values, int32_t first, uint32_t max_k, TableSpec& out) noexcept {
    uint64_t shifted[max_values];
    uint64_t best = UINT64_MAX;
    n_values = std::min(n_values, max_values);
    for (uint32_t k = 0; k <= max_k; ++k) {
        const int32_t first_k = first >> k;
        const uint32_t n_k = uint32_t(((first + int32_t(n_values) - 1) >> k) - first_k + 1);
        std::fill_n(shifted, n_k, 0);
        for (uint32_t i = 0; i < n_values; ++i) shifted[((first + int32_t(i)) >> k) - first_k] += counts[i];
        TableSpec t;
        const uint64_t bits = fit_window(shifted, n_k, first_k, k, t);
        if (bits < best) best = bits, out = t;
    }
    return best;
}

uint64_t fit_closed_table(const uint32_t* counts, uint32_t n_values, int32_t first, TableSpec& out) noexcept {
    LARDER_ASSERT(n_values >= 2 && n_values <= rans_max_symbols);
    out = TableSpec{int16_t(first), 0, uint8_t(n_values), {}};
    uint64_t c[rans_max_symbols] = {};
    for (uint32_t i = 0; i < n_values; ++i) c[i] = uint64_t(counts[i]) * 16 + 1;
    normalise(c, n_values, 0, true, out.freq);
    const uint32_t* cost = symbol_cost();
    uint64_t bits = 0;
    for (uint32_t i = 0; i < n_values; ++i) bits += uint64_t(counts[i]) * cost[out.freq[i]];
    return bits;
}

uint64_t table_cost(const uint32_t* counts, uint32_t n_values, int32_t first, const TableSpec& t) noexcept {
    const uint32_t* cost = symbol_cost();
    uint32_t used = 0;
    for (uint32_t i = 0; i < t.n; ++i) used += t.freq[i];
    const uint64_t escape = cost[256 - used] + escape_bits_q16;
    uint64_t bits = 0, total = 0;
    for (uint32_t i = 0; i < n_values; ++i) {
        const int64_t s = int64_t((first + int32_t(i)) >> t.k) - t.base;
        total += counts[i];
        const bool coded = s >= 0 && s < t.n && t.freq[s];
        bits += counts[i] * (coded ? cost[t.freq[s]] : escape);
    }
    return bits + total * (uint64_t(t.k) << 16);
}

}  // namespace larder
