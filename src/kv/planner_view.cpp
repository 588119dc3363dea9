// Block tables, slot mappings and CSR arrays: what attention kernels read.
#include "kv/planner.h"

namespace larder {
namespace {

larder_status too_small(const char* field, uint64_t needed) noexcept {
    return fail(LARDER_E_BUFFER_TOO_SMALL, field, "%s is too small: %llu elements are needed", field,
                (unsigned long long)needed);
}

// How a group's blocks, as one rank has them, lie in the planner's.
struct RowShape {
    uint32_t block_tokens;  // the planner's
    uint32_t split;         // blocks of the group in one of the planner's
    Shard shard;
    uint32_t group_tokens() const noexcept { return block_tokens / split; }
    int32_t number(const Sequence& s, size_t i) const noexcept {
        return int32_t(s.blocks[i / split] * split + i % split);
    }
};

larder_status table_row(const Sequence* s, const larder_kv_view_options& o, uint32_t row, RowShape shape) noexcept {
    int32_t* dst = static_cast<int32_t*>(o.dst) + uint64_t(row) * o.dst_stride;
    const size_t n = s ? s->blocks.size() * shape.split : 0;
    if (n > o.dst_stride) return too_small("dst_stride", n);
    for (size_t i = 0; i < n; ++i) dst[i] = shape.number(*s, i);
    std::fill(dst + n, dst + o.dst_stride, 0);
    return LARDER_OK;
}

larder_status slot_row(const Sequence* s, const larder_kv_view_options& o, uint32_t row, uint32_t n_given,
                       RowShape shape) noexcept {
    int64_t* dst = static_cast<int64_t*>(o.dst) + uint64_t(row) * o.dst_stride;
    uint64_t n = 0;
    if (s) {
        const uint64_t first = o.first_token && row < n_given ? o.first_token[row] : s->n_computed;
        if (first > s->n_reserved)
            return fail(LARDER_E_RANGE, "first_token", "row %u begins at token %llu of %llu", row,
                        (unsigned long long)first, (unsigned long long)s->n_reserved);
        n = s->n_reserved - first;
        if (n > o.dst_stride) return too_small("dst_stride", n);
        const uint32_t n_local = shape.block_tokens / shape.shard.n_cp;
        for (uint64_t i = 0; i < n; ++i) {
            const uint64_t t = first + i, in_block = t % shape.block_tokens;
            dst[i] = in_block % shape.shard.n_cp != shape.shard.cp
                         ? -1
                         : int64_t(s->blocks[size_t(t / shape.block_tokens)]) * n_local +
                               int64_t(in_block / shape.shard.n_cp);
        }
    }
    std::fill(dst + n, dst + o.dst_stride, 0);
    return LARDER_OK;
}

larder_status csr_row(const Sequence* s, const larder_kv_view_options& o, uint32_t row, RowShape shape) noexcept {
    const uint32_t block_tokens = shape.group_tokens();
    const uint64_t n_tokens = !s ? 0 : o.include_reserved ? s->n_reserved : s->n_computed;
    const uint64_t n = (n_tokens + block_tokens - 1) / block_tokens, at = uint64_t(o.indptr[row]);
    if (at + n > o.dst_stride) return too_small("dst_stride", at + n);
    for (uint64_t i = 0; i < n; ++i) static_cast<int32_t*>(o.dst)[at + i] = shape.number(*s, size_t(i));
    o.indptr[row + 1] = int32_t(at + n);
    if (o.last_block_tokens)
        o.last_block_tokens[row] =
            n_tokens ? int32_t(shape.shard.local_tokens(uint32_t((n_tokens - 1) % block_tokens + 1))) : 0;
    return LARDER_OK;
}

// A RECURRENT group has one slot per sequence.
larder_status state_row(const Sequence* s, const larder_kv_view_options& o, uint32_t row) noexcept {
    const bool csr = o.format == LARDER_KV_VIEW_CSR;
    const uint64_t at = csr ? uint64_t(o.indptr[row]) : row * o.dst_stride, n = csr && !s ? 0 : 1;
    if (csr ? at + n > o.dst_stride : n > o.dst_stride) return too_small("dst_stride", csr ? at + n : n);
    int32_t* dst = static_cast<int32_t*>(o.dst) + at;
    if (n) dst[0] = s ? int32_t(s->slot) : 0;
    if (!csr) std::fill(dst + 1, dst + o.dst_stride, 0);
    if (csr) o.indptr[row + 1] = int32_t(at + n);
    if (csr && o.last_block_tokens) o.last_block_tokens[row] = int32_t(n);
    return LARDER_OK;
}

}  // namespace

larder_status Planner::view_rows(const larder_seq* seqs, uint32_t n, const larder_kv_view_options& o) {
    const uint32_t rows = o.pad_rows ? o.pad_rows : n;
    if (rows < n) return fail(LARDER_E_RANGE, "pad_rows", "pad_rows is %u; there are %u sequences", o.pad_rows, n);
    const bool csr = o.format == LARDER_KV_VIEW_CSR;
    if (csr && !o.indptr) return fail(LARDER_E_INVALID, "indptr", "indptr is NULL");
    if (csr) o.indptr[0] = 0;
    LARDER_TRY(check_range(o.cp, 0, config_.n_cp - 1, "cp"));
    const bool states = layout_.groups[o.group].info.kind == LARDER_GROUP_RECURRENT;
    if (states && o.format == LARDER_KV_VIEW_SLOT_MAPPING)
        return fail(LARDER_E_INVALID, "format", "a RECURRENT group has states, not slots of tokens");
    RowShape shape{block_tokens_, block_tokens_ / layout_.groups[o.group].info.block_tokens, {}};
    shape.shard.cp = o.cp;
    shape.shard.n_cp = config_.n_cp;
    for (uint32_t row = 0; row < rows; ++row) {
        const Sequence* s = nullptr;
        if (row < n && seqs[row]) {
            LARDER_ASSIGN(Sequence * found, find_seq(seqs[row]));
            if (found->state.load(acquire) == LARDER_KV_SEQ_SUSPENDED)
                return fail(LARDER_E_STATE, "seqs", "the sequence of row %u is suspended", row);
            s = found;
        }
        if (states) {
            LARDER_TRY(state_row(s, o, row));
            continue;
        }
        switch (o.format) {
        case LARDER_KV_VIEW_SLOT_MAPPING:
            LARDER_TRY(slot_row(s, o, row, n, shape));
            break;
        case LARDER_KV_VIEW_CSR:
            LARDER_TRY(csr_row(s, o, row, shape));
            break;
        default:
            LARDER_TRY(table_row(s, o, row, shape));
            break;
        }
    }
    return LARDER_OK;
}

}  // namespace larder
