#include "index/snapshot_view.h"

#include <algorithm>
#include <new>

#include "base/atomic.h"
#include "index/ordered_map.h"

namespace larder {

using namespace snapshot;

static bool is_width(uint32_t n) noexcept {
    return n == 8 || n == 16 || n == 32;
}

uint64_t SnapshotView::stride() const noexcept {
    const uint64_t pair_bytes = header_.key_bytes + header_.value_bytes;
    return any_length() ? bytes_per_chunk : chunk_header_bytes + pairs_per_chunk * pair_bytes;
}

larder_status SnapshotView::open() noexcept {
    static constexpr size_t least = header_bytes + chunk_header_bytes;
    if (data_.size() < header_bytes)
        return fail(LARDER_E_TRUNCATED, "n_bytes", "a snapshot is longer than %zu bytes", data_.size());
    LARDER_TRY(read_header(data_.data(), header_));
    if (!(any_length() || is_width(header_.key_bytes)) || !is_width(header_.value_bytes) ||
        header_.order < LARDER_INDEX_ORDER_BYTES || header_.order > LARDER_INDEX_ORDER_INTEGER)
        return fail(LARDER_E_CORRUPT, "data", "the snapshot's header has widths or an order that do not exist");
    if (data_.size() < least) return fail(LARDER_E_TRUNCATED, "n_bytes", "the snapshot has no end");
    ChunkHeader last;
    const std::byte* const end = data_.data() + data_.size() - chunk_header_bytes;
    if (load_le<uint32_t>(end) != 0 || read_chunk(end, nullptr, 0, last) < 0)
        return fail(LARDER_E_TRUNCATED, "n_bytes", "the data does not end as a snapshot ends");
    n_keys_ = last.first_pair;
    const uint64_t n_bytes = data_.size() - least;
    bool whole;
    if (any_length()) {
        n_chunks_ = n_bytes / bytes_per_chunk;
        whole = n_bytes % bytes_per_chunk == 0;
    } else {
        const uint64_t pair_bytes = header_.key_bytes + header_.value_bytes;
        n_chunks_ = n_keys_ / pairs_per_chunk + (n_keys_ % pairs_per_chunk != 0);
        whole = n_keys_ <= n_bytes / pair_bytes && n_bytes == n_keys_ * pair_bytes + n_chunks_ * chunk_header_bytes;
    }
    if (!whole)
        return fail(LARDER_E_TRUNCATED, "n_bytes", "%zu bytes are not the length of a snapshot of %llu keys",
                    data_.size(), (unsigned long long)n_keys_);
    try {
        checked_.assign(n_chunks_ / 8 + 1, 0);
    } catch (const std::bad_alloc&) {
        return fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    return LARDER_OK;
}

void SnapshotView::describe(larder_index_view_info& out) const noexcept {
    out.key_bytes = any_length() ? LARDER_INDEX_ANY_LENGTH : header_.key_bytes;
    out.value_bytes = header_.value_bytes;
    out.order = larder_index_order(header_.order);
    out.n_keys = n_keys_;
}

larder_status SnapshotView::chunk(uint64_t c, Chunk& out) noexcept {
    const std::byte* const h = data_.data() + header_bytes + c * stride();
    out = {h + chunk_header_bytes, load_le<uint32_t>(h), load_le<uint64_t>(h + 8)};
    uint8_t* const bits = &checked_[c / 8];
    const auto bit = uint8_t(1u << c % 8);
    if (load_at(bits) & bit) return LARDER_OK;
    LARDER_TRY(check(c, out));
    for (uint8_t seen = load_at(bits); !exchange_at(bits, seen, uint8_t(seen | bit), relaxed, relaxed);) {
    }
    return LARDER_OK;
}

larder_status SnapshotView::check(uint64_t c, const Chunk& k) const noexcept {
    size_t n_bytes = any_payload_bytes;
    if (!any_length()) {
        const uint64_t n = c + 1 < n_chunks_ ? pairs_per_chunk : n_keys_ - c * pairs_per_chunk;
        if (k.n != n || k.first_pair != c * pairs_per_chunk)
            return fail(LARDER_E_CORRUPT, "data", "chunk %llu of the snapshot is another one", (unsigned long long)c);
        n_bytes = size_t(n) * (header_.key_bytes + header_.value_bytes);
    }
    ChunkHeader h;
    LARDER_TRY(read_chunk(k.payload - chunk_header_bytes, k.payload, n_bytes, h));
    if (!k.n || (any_length() && !AnyChunk(k.payload, k.n, header_.value_bytes).sound()))
        return fail(LARDER_E_CORRUPT, "data", "chunk %llu of the snapshot is empty or has a key out of bounds",
                    (unsigned long long)c);
    for (uint32_t i = 1; i < k.n; ++i)
        if (compare(key_at(k, i - 1), key_at(k, i)) >= 0)
            return fail(LARDER_E_CORRUPT, "data", "the keys of chunk %llu are not ascending", (unsigned long long)c);
    return LARDER_OK;
}

ByteSpan SnapshotView::key_at(const Chunk& k, uint32_t i) const noexcept {
    if (!any_length()) return {k.payload + size_t(i) * header_.key_bytes, header_.key_bytes};
    const larder_index_key key = AnyChunk(k.payload, k.n, header_.value_bytes).key(i);
    return {static_cast<const std::byte*>(key.data), key.n_bytes};
}

const std::byte* SnapshotView::value_at(const Chunk& k, uint32_t i) const noexcept {
    if (any_length()) return AnyChunk(k.payload, k.n, header_.value_bytes).value(i);
    return k.payload + size_t(k.n) * header_.key_bytes + size_t(i) * header_.value_bytes;
}

int SnapshotView::compare(ByteSpan a, ByteSpan b) const noexcept {
    if (header_.order == LARDER_INDEX_ORDER_INTEGER) {
        for (size_t at = a.size(); at > 0; at -= 8) {
            const auto x = load_le<uint64_t>(a.data() + at - 8), y = load_le<uint64_t>(b.data() + at - 8);
            if (x != y) return x < y ? -1 : 1;
        }
        return 0;
    }
    const int d = std::memcmp(a.data(), b.data(), std::min(a.size(), b.size()));
    return d ? d : a.size() < b.size() ? -1 : a.size() > b.size();
}

larder_status SnapshotView::read_key(const void* key, ByteSpan& out) const noexcept {
    if (!any_length()) {
        out = {static_cast<const std::byte*>(key), header_.key_bytes};
        return LARDER_OK;
    }
    larder_index_key k;
    std::memcpy(&k, key, sizeof k);
    LARDER_TRY(check_index_key(k, 0));
    out = {static_cast<const std::byte*>(k.data), k.n_bytes};
    return LARDER_OK;
}

larder_status SnapshotView::find(ByteSpan k, bool strict, Position& out, Chunk& in) noexcept {
    const auto before = [&](uint32_t i) {
        const int d = compare(key_at(in, i), k);
        return strict ? d <= 0 : d < 0;
    };
    // The last chunk whose first key is before the place; the first one when there is none.
    uint64_t low = 0, high = n_chunks_;
    while (high - low > 1) {
        const uint64_t mid = low + (high - low) / 2;
        LARDER_TRY(chunk(mid, in));
        (before(0) ? low : high) = mid;
    }
    LARDER_TRY(chunk(low, in));
    uint32_t from = 0, to = in.n;
    while (from < to) {
        const uint32_t mid = (from + to) / 2;
        if (before(mid))
            from = mid + 1;
        else
            to = mid;
    }
    out = {low, from};
    return LARDER_OK;
}

larder_status SnapshotView::get(const void* key, void* out_value) noexcept {
    ByteSpan k;
    LARDER_TRY(read_key(key, k));
    if (!n_chunks_) return LARDER_MISS;
    Position p;
    Chunk in;
    LARDER_TRY(find(k, true, p, in));
    if (!p.i || compare(key_at(in, p.i - 1), k)) return LARDER_MISS;
    if (out_value) std::memcpy(out_value, value_at(in, p.i - 1), header_.value_bytes);
    return LARDER_OK;
}

void SnapshotView::give(const Chunk& k, uint32_t i, void* out_keys, void* out_values, uint64_t at) const noexcept {
    const ByteSpan key = key_at(k, i);
    if (out_keys && any_length()) {
        const larder_index_key element{key.data(), key.size()};
        std::memcpy(static_cast<std::byte*>(out_keys) + at * sizeof element, &element, sizeof element);
    } else if (out_keys) {
        std::memcpy(static_cast<std::byte*>(out_keys) + at * key.size(), key.data(), key.size());
    }
    if (out_values)
        std::memcpy(static_cast<std::byte*>(out_values) + at * header_.value_bytes, value_at(k, i),
                    header_.value_bytes);
}

larder_status SnapshotView::scan(larder_index_from from, const void* key, void* out_keys, void* out_values, uint64_t n,
                                 uint64_t& out_n) noexcept {
    const bool up = OrderedMap::ascends(from);
    ByteSpan k;
    if (key) LARDER_TRY(read_key(key, k));
    if (!n_chunks_) return LARDER_OK;
    Position p{up ? 0 : n_chunks_ - 1, 0};
    Chunk in;
    if (key) {
        // Below k, or not above it: everything before the first key that is not.
        LARDER_TRY(find(k, up == OrderedMap::is_strict(from), p, in));
    } else {
        LARDER_TRY(chunk(p.chunk, in));
        p.i = up ? 0 : in.n;
    }
    while (out_n < n) {
        if (up ? p.i < in.n : p.i > 0) {
            give(in, up ? p.i++ : --p.i, out_keys, out_values, out_n++);
            continue;
        }
        if (up ? p.chunk + 1 == n_chunks_ : p.chunk == 0) break;
        p.chunk += up ? 1 : uint64_t(-1);
        LARDER_TRY(chunk(p.chunk, in));
        p.i = up ? 0 : in.n;
    }
    return LARDER_OK;
}

larder_status SnapshotView::verify() noexcept {
    uint64_t n = 0;
    ByteSpan last;
    for (uint64_t c = 0; c < n_chunks_; ++c) {
        Chunk k;
        LARDER_TRY(chunk(c, k));
        if (k.first_pair != n || (c && compare(last, key_at(k, 0)) >= 0))
            return fail(LARDER_E_CORRUPT, "data", "chunk %llu of the snapshot does not follow the one before it",
                        (unsigned long long)c);
        n += k.n;
        last = key_at(k, k.n - 1);
    }
    if (n != n_keys_)
        return fail(LARDER_E_CORRUPT, "data", "the snapshot has %llu keys and claims %llu", (unsigned long long)n,
                    (unsigned long long)n_keys_);
    return LARDER_OK;
}

}  // namespace larder
