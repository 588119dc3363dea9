#include <bit>
#include <cmath>
#include <cstring>

#include "codec/adapter.h"

namespace larder {

namespace {

constexpr uint32_t nobody = UINT32_MAX;

bool has_weight(const larder_adapter_matrix& m, uint32_t module, uint64_t i) noexcept {
    return m.masks[module][i / 8] >> i % 8 & 1;
}

uint32_t owner_of(const larder_adapter_matrix& m, uint32_t n_modules, uint64_t i) noexcept {
    for (uint32_t k = 0; k < n_modules; ++k)
        if (has_weight(m, k, i)) return k;
    return nobody;
}

bool has_gaps(const larder_adapter_matrix& m, uint32_t n_modules) noexcept {
    for (uint64_t i = 0; i < uint64_t(m.rows) * m.cols; ++i)
        if (owner_of(m, n_modules, i) == nobody) return true;
    return false;
}

// Owners as stored: one bit string, lowest bits first.
uint32_t stored_owner(const std::byte* map, uint32_t bits, uint64_t i) noexcept {
    uint32_t v = 0;
    for (uint32_t b = 0; b < bits; ++b) {
        const uint64_t at = i * bits + b;
        v |= (uint32_t(map[at / 8]) >> at % 8 & 1) << b;
    }
    return v;
}

constexpr size_t head_bytes = 8;  // u8 gaps, zeros

}  // namespace

uint32_t owner_bits(uint32_t n_modules, bool gaps) noexcept {
    return uint32_t(std::bit_width(n_modules - (gaps ? 0u : 1u)));
}

uint64_t module_matrix_bytes(const larder_adapter_matrix& m, uint32_t n_modules) noexcept {
    const uint64_t n = uint64_t(m.rows) * m.cols;
    uint64_t owned = 0;
    for (uint64_t i = 0; i < n; ++i) owned += owner_of(m, n_modules, i) != nobody;
    const uint64_t map = (n * owner_bits(n_modules, owned < n) + 31) / 32 * 4;
    return head_bytes + 4 * uint64_t(n_modules) + (m.values ? 4 * n : 0) + map + 4 * owned;
}

larder_status check_disjoint(const larder_adapter_matrix& m, uint32_t n_modules) noexcept {
    for (uint64_t i = 0; i < uint64_t(m.rows) * m.cols; ++i) {
        const uint32_t first = owner_of(m, n_modules, i);
        for (uint32_t k = first == nobody ? n_modules : first + 1; k < n_modules; ++k)
            if (has_weight(m, k, i))
                return fail(LARDER_E_INVALID, "masks", "modules %u and %u both have weight %llu of %.60s", first, k,
                            (unsigned long long)i, m.name);
        if (first != nobody && !std::isfinite(m.modules[first][i]))
            return fail(LARDER_E_INVALID, "modules", "weight %llu of %.60s is not finite", (unsigned long long)i,
                        m.name);
    }
    return LARDER_OK;
}

void write_modules(const larder_adapter_matrix& m, uint32_t n_modules, std::byte* out) noexcept {
    const uint64_t n = uint64_t(m.rows) * m.cols;
    const bool gaps = has_gaps(m, n_modules);
    const uint32_t bits = owner_bits(n_modules, gaps);
    const uint64_t map_bytes = (n * bits + 31) / 32 * 4;
    std::memset(out, 0, head_bytes);
    store_le<uint8_t>(out, gaps);
    std::byte* counts = out + head_bytes;
    std::byte* at = counts + 4 * size_t(n_modules);
    if (m.values) {
        std::memcpy(at, m.values, 4 * n);
        at += 4 * n;
    }
    std::byte* map = at;
    std::memset(map, 0, map_bytes);
    at += map_bytes;
    for (uint64_t i = 0; i < n; ++i) {
        const uint32_t owner = owner_of(m, n_modules, i), v = owner == nobody ? n_modules : owner;
        for (uint32_t b = 0; b < bits; ++b) map[(i * bits + b) / 8] |= std::byte((v >> b & 1) << (i * bits + b) % 8);
    }
    for (uint32_t k = 0; k < n_modules; ++k) {
        uint32_t count = 0;
        for (uint64_t i = 0; i < n; ++i)
            if (has_weight(m, k, i)) {
                std::memcpy(at, m.modules[k] + i, 4);
                at += 4, ++count;
            }
        store_le<uint32_t>(counts + 4 * size_t(k), count);
    }
}

larder_status merge_modules(ByteSpan in, uint64_t n, const AdapterHeader& h, const uint64_t chosen[4],
                            float* out) noexcept {
    const auto damaged = [](const char* why) { return fail(LARDER_E_CORRUPT, "matrix", "%s", why); };
    const uint64_t base_at = head_bytes + 4 * uint64_t(h.n_modules), map_at = base_at + (h.has_base ? 4 * n : 0);
    if (in.size() < map_at || load_le<uint64_t>(in.data()) > 1) return damaged("the head of a matrix is damaged");
    const bool gaps = load_le<uint8_t>(in.data());
    const uint32_t bits = owner_bits(h.n_modules, gaps);
    const uint64_t map_bytes = (n * bits + 31) / 32 * 4;
    if (in.size() < map_at + map_bytes) return damaged("a matrix ends within its map");
    const std::byte* map = in.data() + map_at;
    // The map decides whose a weight is; the counts must agree with it, or values would go astray.
    uint32_t have[LARDER_ADAPTER_MAX_MODULES + 1] = {};
    for (uint64_t i = 0; i < n; ++i) {
        const uint32_t owner = stored_owner(map, bits, i);
        if (owner > h.n_modules || (owner == h.n_modules && !gaps))
            return damaged("the map of a matrix names no module");
        ++have[owner];
    }
    for (uint64_t b = n * bits; b < 8 * map_bytes; ++b)
        if (uint32_t(map[b / 8]) >> b % 8 & 1) return damaged("the padding of a map is not zero");
    uint64_t at[LARDER_ADAPTER_MAX_MODULES + 1], end = map_at + map_bytes;
    for (uint32_t k = 0; k < h.n_modules; ++k) {
        if (load_le<uint32_t>(in.data() + head_bytes + 4 * size_t(k)) != have[k])
            return damaged("a module does not have the weights that the map gives it");
        at[k] = end;
        end += 4 * uint64_t(have[k]);
    }
    if (end != in.size()) return damaged("a matrix has another length than its modules");
    for (uint64_t i = 0; i < n; ++i) {
        float x = h.has_base ? load_le<float>(in.data() + base_at + 4 * i) : 0.0f;
        const uint32_t owner = stored_owner(map, bits, i);
        if (owner < h.n_modules) {
            const float w = load_le<float>(in.data() + at[owner]);
            at[owner] += 4;
            if (chosen[owner / 64] >> owner % 64 & 1) x = h.has_base ? x + w : w;
        }
        out[i] = x;
    }
    return LARDER_OK;
}

}  // namespace larder
