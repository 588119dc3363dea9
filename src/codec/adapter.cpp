#include "codec/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/crc32c.h"
#include "base/options.h"

namespace larder {

namespace {

// Offsets in the header and in a directory entry.
enum : size_t {
    at_magic = 0,
    at_version = 4,
    at_kind = 5,
    at_bits = 6,
    at_modules = 7,
    at_matrices = 8,
    at_has_base = 12,
    at_names_bytes = 16,
    at_crc = 20,
    at_total = 24,
    at_identity = 32,
    at_levels = 64
};
enum : size_t { entry_rows = 0, entry_cols = 4, entry_name = 8, entry_crc = 12, entry_offset = 16, entry_n = 24 };
constexpr uint64_t max_weights = uint64_t(1) << 28;
constexpr uint32_t max_matrices = 65536, max_name = 255;

constexpr uint64_t align8(uint64_t n) noexcept {
    return (n + 7) / 8 * 8;
}

uint32_t front_crc(const std::byte* p, uint64_t end) noexcept {
    return crc32c(crc32c(0, p, at_crc), p + at_crc + 4, end - at_crc - 4);
}

// Where each matrix's name begins among the names; they lie one behind the other, each with a zero.
const char* name_of(const AdapterHeader& h, uint32_t name_at) noexcept {
    return reinterpret_cast<const char*>(h.bytes.data()) + adapter_header_bytes + h.n_matrices * adapter_entry_bytes +
           name_at;
}

larder_status check_entries(const AdapterHeader& h) noexcept {
    const auto damaged = [](const char* why) { return fail(LARDER_E_CORRUPT, "directory", "%s", why); };
    uint64_t name = 0, offset = h.matrices_offset;
    for (uint32_t i = 0; i < h.n_matrices; ++i) {
        const std::byte* e = h.bytes.data() + adapter_header_bytes + size_t(i) * adapter_entry_bytes;
        const uint64_t rows = load_le<uint32_t>(e + entry_rows), cols = load_le<uint32_t>(e + entry_cols),
                       n = load_le<uint64_t>(e + entry_n);
        if (!rows || !cols || rows * cols > max_weights) return damaged("a matrix has an impossible shape");
        if (load_le<uint32_t>(e + entry_name) != name || name >= h.names_bytes)
            return damaged("a name is not in its place");
        const size_t length = strnlen(name_of(h, uint32_t(name)), h.names_bytes - name);
        name += length + 1;
        if (!length || length > max_name || name > h.names_bytes) return damaged("a name is empty, or too long");
        if (load_le<uint64_t>(e + entry_offset) != offset || n > h.total_bytes)
            return damaged("a matrix is not in its place");
        if (h.kind == LARDER_ADAPTER_CODED && n != coded_matrix_bytes(rows * cols, h.bits))
            return damaged("a coded matrix has another length than its shape");
        offset += align8(n);
    }
    return offset == h.total_bytes ? LARDER_OK : damaged("the matrices do not add up to the length");
}

}  // namespace

larder_status read_adapter(ByteSpan bytes, AdapterHeader& h) noexcept {
    std::byte magic[4];
    store_le<uint32_t>(magic, adapter_magic);
    const size_t have = std::min<size_t>(bytes.size(), 4);
    if (have && std::memcmp(bytes.data(), magic, have))
        return fail(LARDER_E_FORMAT, "magic", "these bytes are not an adapter");
    if (bytes.size() < adapter_header_bytes)
        return fail(LARDER_E_TRUNCATED, "header", "the adapter ends in its header");
    const std::byte* p = bytes.data();
    if (uint8_t(p[at_version]) != 1)
        return fail(LARDER_E_VERSION, "version", "the adapter has format version %u", uint32_t(p[at_version]));
    h.bytes = bytes;
    h.kind = uint8_t(p[at_kind]);
    h.bits = uint8_t(p[at_bits]);
    h.n_modules = uint8_t(p[at_modules]);
    h.n_matrices = load_le<uint32_t>(p + at_matrices);
    h.has_base = load_le<uint32_t>(p + at_has_base);
    h.names_bytes = load_le<uint32_t>(p + at_names_bytes);
    h.total_bytes = load_le<uint64_t>(p + at_total);
    std::memcpy(h.identity.bytes, p + at_identity, 32);
    std::memcpy(h.levels, p + at_levels, sizeof h.levels);
    h.matrices_offset =
        align8(adapter_header_bytes + uint64_t(h.n_matrices) * adapter_entry_bytes + uint64_t(h.names_bytes));
    const bool coded = h.kind == LARDER_ADAPTER_CODED;
    const bool possible = h.n_matrices >= 1 && h.n_matrices <= max_matrices && h.has_base <= 1 &&
                          (coded ? (h.bits == 1 || h.bits == 2 || h.bits == 4) && !h.n_modules && !h.has_base
                                 : h.kind == LARDER_ADAPTER_MODULES && !h.bits && h.n_modules) &&
                          h.names_bytes <= uint64_t(h.n_matrices) * (max_name + 1);
    if (bytes.size() > h.total_bytes) return fail(LARDER_E_CORRUPT, "total_bytes", "bytes follow the adapter's end");
    if (!possible || h.total_bytes < h.matrices_offset)
        return fail(LARDER_E_CORRUPT, "header", "the adapter's header states what cannot be");
    if (bytes.size() < h.matrices_offset)
        return fail(LARDER_E_TRUNCATED, "directory", "the adapter ends in its directory");
    if (front_crc(p, h.matrices_offset) != load_le<uint32_t>(p + at_crc))
        return fail(LARDER_E_CORRUPT, "header", "the checksum of the adapter's header and directory does not hold");
    for (float level : h.levels)
        if (!std::isfinite(level)) return fail(LARDER_E_CORRUPT, "levels", "a level is not a finite number");
    return check_entries(h);
}

larder_status adapter_entry(const AdapterHeader& h, uint32_t index, larder_adapter_entry& out) noexcept {
    if (index >= h.n_matrices)
        return fail(LARDER_E_NOT_FOUND, "index", "the adapter has %u matrices, none with number %u", h.n_matrices,
                    index);
    const std::byte* e = h.bytes.data() + adapter_header_bytes + size_t(index) * adapter_entry_bytes;
    out = LARDER_ADAPTER_ENTRY_INIT;
    out.rows = load_le<uint32_t>(e + entry_rows);
    out.cols = load_le<uint32_t>(e + entry_cols);
    out.crc32c = load_le<uint32_t>(e + entry_crc);
    out.offset = load_le<uint64_t>(e + entry_offset);
    out.n_bytes = load_le<uint64_t>(e + entry_n);
    const char* name = name_of(h, load_le<uint32_t>(e + entry_name));
    std::memcpy(out.name, name, std::strlen(name));
    return LARDER_OK;
}

namespace {

const larder_adapter_matrix* matrix_at(const larder_adapter_matrix* first, uint32_t i) noexcept {
    return reinterpret_cast<const larder_adapter_matrix*>(reinterpret_cast<const std::byte*>(first) +
                                                          size_t(i) * first->struct_size);
}

larder_status check_options(const larder_adapter_options* user, larder_adapter_options& o) noexcept {
    LARDER_TRY(read_options(user, o, "larder_adapter_options"));
    if (!o.kind) o.kind = LARDER_ADAPTER_CODED;
    if (o.kind == LARDER_ADAPTER_MODULES) {
        if (o.bits) return fail(LARDER_E_INVALID, "bits", "modules are stored as they are");
        return check_range(o.n_modules, 1, LARDER_ADAPTER_MAX_MODULES, "n_modules");
    }
    if (o.kind != LARDER_ADAPTER_CODED) return fail(LARDER_E_INVALID, "kind", "there is no adapter kind %d", o.kind);
    if (!o.bits) o.bits = 1;
    if (o.bits != 1 && o.bits != 2 && o.bits != 4) return fail(LARDER_E_RANGE, "bits", "bits must be 1, 2 or 4");
    return o.n_modules ? fail(LARDER_E_INVALID, "n_modules", "a coded adapter has no modules") : LARDER_OK;
}

larder_status check_matrix(const larder_adapter_options& o, const larder_adapter_matrix& m, bool has_base) noexcept {
    LARDER_TRY(check_reserved(m.reserved0, "reserved0"));
    if (!m.name || !*m.name || strnlen(m.name, max_name + 1) > max_name)
        return fail(LARDER_E_INVALID, "name", "a matrix needs a name of 1 to %u bytes", max_name);
    LARDER_TRY(check_range(m.rows, 1, max_weights, "rows"));
    LARDER_TRY(check_range(uint64_t(m.rows) * m.cols, 1, max_weights, "weights of a matrix"));
    for (uint64_t i = 0; m.values && i < uint64_t(m.rows) * m.cols; ++i)
        if (!std::isfinite(m.values[i]))
            return fail(LARDER_E_INVALID, "values", "weight %llu of %.60s is not finite", (unsigned long long)i,
                        m.name);
    if (o.kind == LARDER_ADAPTER_CODED)
        return m.values ? LARDER_OK : fail(LARDER_E_INVALID, "values", "%.60s has no values", m.name);
    if (has_base != (m.values != nullptr))
        return fail(LARDER_E_INVALID, "values", "%.60s: a base is of all matrices or of none", m.name);
    if (!m.masks || !m.modules) return fail(LARDER_E_INVALID, "masks", "%.60s has no masks or no modules", m.name);
    for (uint32_t k = 0; k < o.n_modules; ++k)
        if (!m.masks[k] || !m.modules[k])
            return fail(LARDER_E_INVALID, "masks", "module %u of %.60s is NULL", k, m.name);
    return check_disjoint(m, o.n_modules);
}

struct Sizes {
    uint64_t names = 0, matrices = 0;
};

larder_status measure(const larder_adapter_options& o, const larder_adapter_matrix* matrices, uint32_t n,
                      Sizes& out) noexcept {
    for (uint32_t i = 0; i < n; ++i) {
        const larder_adapter_matrix& m = *matrix_at(matrices, i);
        LARDER_TRY(check_matrix(o, m, matrices->values != nullptr));
        for (uint32_t k = 0; k < i; ++k)
            if (!std::strcmp(matrix_at(matrices, k)->name, m.name))
                return fail(LARDER_E_INVALID, "name", "two matrices are called %.60s", m.name);
        out.names += std::strlen(m.name) + 1;
        out.matrices += align8(o.kind == LARDER_ADAPTER_CODED ? coded_matrix_bytes(uint64_t(m.rows) * m.cols, o.bits)
                                                              : module_matrix_bytes(m, o.n_modules));
    }
    return LARDER_OK;
}

// Directory, names and matrices behind a header that is in place.
void write_matrices(const larder_adapter_options& o, const larder_adapter_matrix* matrices, uint32_t n,
                    const float* levels, uint64_t offset, std::byte* out) noexcept {
    uint64_t name = 0;
    std::byte* names = out + adapter_header_bytes + size_t(n) * adapter_entry_bytes;
    for (uint32_t i = 0; i < n; ++i) {
        const larder_adapter_matrix& m = *matrix_at(matrices, i);
        const uint64_t weights = uint64_t(m.rows) * m.cols;
        uint64_t bytes;
        if (o.kind == LARDER_ADAPTER_CODED) {
            bytes = coded_matrix_bytes(weights, o.bits);
            code_matrix(m.values, weights, o.bits, levels, out + offset);
        } else {
            bytes = module_matrix_bytes(m, o.n_modules);
            write_modules(m, o.n_modules, out + offset);
        }
        std::memset(out + offset + bytes, 0, align8(bytes) - bytes);
        std::byte* e = out + adapter_header_bytes + size_t(i) * adapter_entry_bytes;
        store_le<uint32_t>(e + entry_rows, m.rows);
        store_le<uint32_t>(e + entry_cols, m.cols);
        store_le<uint32_t>(e + entry_name, uint32_t(name));
        store_le<uint32_t>(e + entry_crc, crc32c(0, out + offset, align8(bytes)));
        store_le<uint64_t>(e + entry_offset, offset);
        store_le<uint64_t>(e + entry_n, bytes);
        const size_t length = std::strlen(m.name) + 1;
        std::memcpy(names + name, m.name, length);
        name += length;
        offset += align8(bytes);
    }
}

}  // namespace

larder_status adapter_encode(const larder_adapter_options* options, const larder_adapter_matrix* matrices,
                             uint32_t n_matrices, MutByteSpan out, uint64_t& n_bytes) noexcept {
    larder_adapter_options o;
    n_bytes = 0;
    LARDER_TRY(check_options(options, o));
    LARDER_TRY(check_range(n_matrices, 1, max_matrices, "n_matrices"));
    if (matrices->struct_size < sizeof(larder_adapter_matrix))
        return fail(LARDER_E_INVALID, "struct_size", "initialise the matrices with LARDER_ADAPTER_MATRIX_INIT");
    Sizes s;
    LARDER_TRY(measure(o, matrices, n_matrices, s));
    const uint64_t front = adapter_header_bytes + uint64_t(n_matrices) * adapter_entry_bytes + s.names,
                   offset = align8(front);
    n_bytes = offset + s.matrices;
    if (out.size() < n_bytes)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the adapter has %llu bytes", (unsigned long long)n_bytes);
    std::byte* p = out.data();
    std::memset(p, 0, offset);
    store_le<uint32_t>(p + at_magic, adapter_magic);
    store_le<uint8_t>(p + at_version, 1);
    store_le<uint8_t>(p + at_kind, uint8_t(o.kind));
    store_le<uint8_t>(p + at_bits, uint8_t(o.bits));
    store_le<uint8_t>(p + at_modules, uint8_t(o.n_modules));
    store_le<uint32_t>(p + at_matrices, n_matrices);
    store_le<uint32_t>(p + at_has_base, o.kind == LARDER_ADAPTER_MODULES && matrices->values);
    store_le<uint32_t>(p + at_names_bytes, uint32_t(s.names));
    store_le<uint64_t>(p + at_total, n_bytes);
    std::memcpy(p + at_identity, o.identity.bytes, 32);
    float levels[16] = {};
    if (o.kind == LARDER_ADAPTER_CODED) median_levels(o.bits, levels);
    std::memcpy(p + at_levels, levels, sizeof levels);
    write_matrices(o, matrices, n_matrices, levels, offset, p);
    store_le<uint32_t>(p + at_crc, front_crc(p, offset));
    return LARDER_OK;
}

larder_status adapter_decode(ByteSpan bytes, uint32_t index, const larder_key* identity, const uint32_t* modules,
                             uint32_t n_modules, float* out, uint64_t n_weights) noexcept {
    AdapterHeader h;
    LARDER_TRY(read_adapter(bytes, h));
    if (identity && std::memcmp(identity->bytes, h.identity.bytes, 32))
        return fail(LARDER_E_IDENTITY, "identity", "the adapter belongs to something else");
    larder_adapter_entry e;
    LARDER_TRY(adapter_entry(h, index, e));
    const uint64_t n = uint64_t(e.rows) * e.cols;
    if (n_weights < n)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "n_weights", "%s has %llu weights", e.name, (unsigned long long)n);
    if (bytes.size() < e.offset + align8(e.n_bytes))
        return fail(LARDER_E_TRUNCATED, "matrix", "the adapter ends before %s does", e.name);
    if (crc32c(0, bytes.data() + e.offset, align8(e.n_bytes)) != e.crc32c)
        return fail(LARDER_E_CORRUPT, "matrix", "the checksum of %s does not hold", e.name);
    const ByteSpan stored = bytes.subspan(e.offset, e.n_bytes);
    if (h.kind == LARDER_ADAPTER_CODED) {
        if (modules) return fail(LARDER_E_INVALID, "modules", "a coded adapter has no modules");
        return decode_matrix(stored, n, h.bits, h.levels, out);
    }
    uint64_t chosen[4] = {};
    for (uint32_t i = 0; modules && i < n_modules; ++i) {
        LARDER_TRY(check_range(modules[i], 0, h.n_modules - 1, "modules"));
        uint64_t& word = chosen[modules[i] / 64];
        const uint64_t bit = uint64_t(1) << modules[i] % 64;
        if (word & bit) return fail(LARDER_E_INVALID, "modules", "module %u is named twice", modules[i]);
        word |= bit;
    }
    if (!modules) std::fill(chosen, chosen + 4, ~uint64_t(0));
    return merge_modules(stored, n, h, chosen, out);
}

}  // namespace larder
