// What kernels read: block tables in three forms, and slots.
#include <algorithm>
#include <cstring>
#include <limits>

#include "base/options.h"
#include "memory/arena.h"

using namespace larder;

// Everything that can be wrong is found before the first byte is written.
larder_status larder_arena::check_rows(uint32_t group, std::span<const larder_seq> seqs, uint32_t n_rows,
                                       uint64_t row_stride) noexcept {
    LARDER_TRY(check_paged());
    LARDER_TRY(check_group(group));
    if (n_rows < seqs.size())
        return fail(LARDER_E_RANGE, "n_rows", "n_rows is %u for %zu sequences", n_rows, seqs.size());
    for (larder_seq seq : seqs) {
        LARDER_ASSIGN(const SeqRef s, find(seq));
        const uint64_t n = root(s.index, group).n_blocks;
        if (n > row_stride)
            return fail(LARDER_E_BUFFER_TOO_SMALL, "row_stride", "a sequence has %llu blocks; a row holds %llu",
                        (unsigned long long)n, (unsigned long long)row_stride);
    }
    return LARDER_OK;
}

larder_status larder_arena::block_table(uint32_t group, std::span<const larder_seq> seqs, uint32_t n_rows, int32_t* dst,
                                        uint64_t row_stride) noexcept {
    LARDER_TRY(check_rows(group, seqs, n_rows, row_stride));
    int32_t* row = dst;
    for (larder_seq seq : seqs) {
        const TableRoot& t = root(Id::index(seq), group);
        int32_t* at = row;
        tables_->for_range(t, 0, t.n_blocks, [&](std::span<const uint32_t> numbers) {
            std::memcpy(at, numbers.data(), numbers.size_bytes());
            at += numbers.size();
        });
        row += row_stride;
        std::fill(at, row, 0);
    }
    std::fill(row, dst + n_rows * row_stride, 0);
    return LARDER_OK;
}

larder_status larder_arena::block_csr(uint32_t group, std::span<const larder_seq> seqs, uint32_t n_rows,
                                      int32_t* indptr, int32_t* indices, uint64_t capacity, int32_t* last_page_len,
                                      uint64_t* out_n) noexcept {
    LARDER_TRY(check_rows(group, seqs, n_rows, UINT64_MAX));
    uint64_t total = n_rows - seqs.size();
    for (larder_seq seq : seqs) total += root(Id::index(seq), group).n_blocks;
    if (out_n) *out_n = total;
    if (total > uint64_t(std::numeric_limits<int32_t>::max()))
        return fail(LARDER_E_RANGE, "indptr", "%llu indices do not fit int32", (unsigned long long)total);
    if (total > capacity)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "%llu indices are needed; capacity is %llu",
                    (unsigned long long)total, (unsigned long long)capacity);
    int32_t* at = indices;
    uint32_t i = 0;
    for (; i < seqs.size(); ++i) {
        const uint32_t index = Id::index(seqs[i]);
        const TableRoot& t = root(index, group);
        indptr[i] = int32_t(at - indices);
        tables_->for_range(t, 0, t.n_blocks, [&](std::span<const uint32_t> numbers) {
            std::memcpy(at, numbers.data(), numbers.size_bytes());
            at += numbers.size();
        });
        const uint64_t before_last = (t.n_blocks - (t.n_blocks != 0)) * shapes_[group].block_tokens;
        if (shapes_[group].is_state)
            last_page_len[i] = t.n_blocks != 0;
        else
            last_page_len[i] =
                t.n_blocks
                    ? int32_t(std::min<uint64_t>(seqs_[index].n_tokens - before_last, shapes_[group].block_tokens))
                    : 0;
    }
    for (; i < n_rows; ++i) {
        indptr[i] = int32_t(at - indices);
        *at++ = 0;
        last_page_len[i] = 1;
    }
    indptr[n_rows] = int32_t(at - indices);
    return LARDER_OK;
}

larder_status larder_arena::block_pointers(uint32_t group, uint32_t layer, larder_plane plane,
                                           std::span<const larder_seq> seqs, uint32_t n_rows, void** dst,
                                           uint64_t row_stride) noexcept {
    LARDER_TRY(check_rows(group, seqs, n_rows, row_stride));
    LARDER_TRY(check_plane(group, layer, plane));
    const ArenaStorage::Plane& p = storage_->plane(group, layer, plane_index(plane));
    if (!p.base) return fail(LARDER_E_RANGE, "plane", "group %u has no plane %d", group, plane);
    void** row = dst;
    for (larder_seq seq : seqs) {
        const TableRoot& t = root(Id::index(seq), group);
        void** at = row;
        tables_->for_range(t, 0, t.n_blocks, [&](std::span<const uint32_t> numbers) {
            for (uint32_t b : numbers) *at++ = p.base + b * p.block_stride;
        });
        row += row_stride;
        std::fill(at, row, p.base);
    }
    std::fill(row, dst + n_rows * row_stride, p.base);
    return LARDER_OK;
}

namespace {

// Slots of [first, first + n), where the table's entries over the range are `numbers`.
template <class T>
T* write_slots(T* out, std::span<const uint32_t> numbers, uint32_t block_tokens, uint32_t from, uint64_t n) {
    for (uint32_t b : numbers) {
        const auto k = uint32_t(std::min<uint64_t>(n, block_tokens - from));
        if (b == BlockPool::null_block)
            std::fill_n(out, k, T(-1));
        else
            for (uint32_t i = 0; i < k; ++i) out[i] = T(int64_t(b) * block_tokens + from + i);
        out += k;
        n -= k;
        from = 0;
    }
    return out;
}

}  // namespace

larder_status larder_arena::slot_mapping(uint32_t group, std::span<const larder_arena_range> ranges, void* dst,
                                         uint32_t entry_bytes, uint64_t n_entries, uint64_t* out_n) noexcept {
    LARDER_TRY(check_paged());
    LARDER_TRY(check_group(group));
    if (entry_bytes != 4 && entry_bytes != 8)
        return fail(LARDER_E_INVALID, "entry_bytes", "entry_bytes is %u; it must be 4 or 8", entry_bytes);
    const GroupShape& shape = shapes_[group];
    if (shape.is_state)
        return fail(LARDER_E_UNSUPPORTED, "group", "group %u keeps states: its tokens have no slots", group);
    if (entry_bytes == 4 && shape.n_blocks * shape.block_tokens > uint64_t(std::numeric_limits<int32_t>::max()))
        return fail(LARDER_E_RANGE, "entry_bytes", "the group has more slots than int32 can number");
    uint64_t total = 0;
    for (const larder_arena_range& r : ranges) {
        LARDER_ASSIGN(const SeqRef s, find(r.seq));
        const uint64_t have = std::min(s.seq->n_tokens, root(s.index, group).n_blocks * shape.block_tokens);
        if (r.first > have || r.n_tokens > have - r.first)
            return fail(LARDER_E_RANGE, "ranges", "the sequence has %llu tokens in this group",
                        (unsigned long long)have);
        total += r.n_tokens;
    }
    if (out_n) *out_n = total;
    if (total > n_entries)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "n_entries", "%llu slots are needed; n_entries is %llu",
                    (unsigned long long)total, (unsigned long long)n_entries);
    auto* narrow = static_cast<int32_t*>(dst);
    auto* wide = static_cast<int64_t*>(dst);
    for (const larder_arena_range& r : ranges) {
        if (!r.n_tokens) continue;
        const uint64_t first = r.first / shape.block_tokens, last = (r.first + r.n_tokens - 1) / shape.block_tokens;
        auto from = uint32_t(r.first % shape.block_tokens);
        uint64_t left = r.n_tokens;
        tables_->for_range(root(Id::index(r.seq), group), first, last - first + 1,
                           [&](std::span<const uint32_t> numbers) {
                               if (entry_bytes == 4)
                                   narrow = write_slots(narrow, numbers, shape.block_tokens, from, left);
                               else
                                   wide = write_slots(wide, numbers, shape.block_tokens, from, left);
                               left -= std::min<uint64_t>(left, numbers.size() * shape.block_tokens - from);
                               from = 0;
                           });
    }
    if (entry_bytes == 4)
        std::fill_n(narrow, n_entries - total, -1);
    else
        std::fill_n(wide, n_entries - total, -1);
    return LARDER_OK;
}
