#include "larder/arena.h"

#include "api/guard.h"
#include "memory/arena.h"

using namespace larder;

larder_status larder_arena_create(larder_context* context, larder_layout* layout, const larder_arena_options* options,
                                  larder_arena** out_arena) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_HANDLE_OF(context, layout, layout);
    LARDER_API_NONNULL(out_arena);
    *out_arena = nullptr;
    return larder_arena::create(*context, *layout, options, out_arena);
    LARDER_API_END
}

larder_status larder_arena_import(larder_context* context, larder_layout* layout, const larder_arena_options* options,
                                  const larder_arena_import_options* import_options,
                                  larder_arena** out_arena) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_HANDLE_OF(context, layout, layout);
    LARDER_API_NONNULL(out_arena);
    *out_arena = nullptr;
    return larder_arena::import(*context, *layout, options, import_options, out_arena);
    LARDER_API_END
}

void larder_arena_destroy(larder_arena* arena) noexcept {
    if (arena && check_handle(arena, HandleType::arena, "arena") >= 0) arena->context->drop_handle(arena);
}

larder_status larder_arena_group_query(larder_arena* arena, uint32_t group, larder_arena_group_state* out) noexcept {
    LARDER_API_HANDLE(arena, arena);
    larder_arena_group_state state;
    LARDER_TRY(arena->group_query(group, state));
    return write_struct(out, state, "larder_arena_group_state");
}

larder_status larder_arena_layer_view(const larder_arena* arena, uint32_t group, uint32_t layer,
                                      larder_arena_layer* out) noexcept {
    LARDER_API_HANDLE(arena, arena);
    larder_arena_layer view;
    LARDER_TRY(arena->layer_view(group, layer, view));
    return write_struct(out, view, "larder_arena_layer");
}

larder_status larder_arena_alloc(larder_arena* arena, uint32_t group, uint32_t n, larder_block* out_blocks) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n) LARDER_API_NONNULL(out_blocks);
    return arena->alloc(group, {out_blocks, n});
}

larder_status larder_arena_ref(larder_arena* arena, const larder_block* blocks, uint32_t n) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n) LARDER_API_NONNULL(blocks);
    return arena->ref({blocks, n});
}

larder_status larder_arena_unref(larder_arena* arena, const larder_block* blocks, uint32_t n) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n) LARDER_API_NONNULL(blocks);
    return arena->unref({blocks, n});
}

larder_status larder_arena_seal(larder_arena* arena, const larder_block* blocks, uint32_t n) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n) LARDER_API_NONNULL(blocks);
    return arena->seal({blocks, n});
}

larder_status larder_arena_block_query(larder_arena* arena, larder_block block,
                                       larder_arena_block_state* out) noexcept {
    LARDER_API_HANDLE(arena, arena);
    larder_arena_block_state state;
    LARDER_TRY(arena->block_query(block, state));
    return write_struct(out, state, "larder_arena_block_state");
}

larder_status larder_arena_block_address(larder_arena* arena, larder_block block, uint32_t layer, larder_plane plane,
                                         void** out_address) noexcept {
    LARDER_API_HANDLE(arena, arena);
    LARDER_API_NONNULL(out_address);
    return arena->block_address(block, layer, plane, out_address);
}

larder_status larder_arena_seq_create(larder_arena* arena, larder_seq* out_seq) noexcept {
    LARDER_API_HANDLE(arena, arena);
    LARDER_API_NONNULL(out_seq);
    return arena->seq_create(out_seq);
}

larder_status larder_arena_seq_destroy(larder_arena* arena, larder_seq seq) noexcept {
    LARDER_API_HANDLE(arena, arena);
    return arena->seq_destroy(seq);
}

larder_status larder_arena_seq_append(larder_arena* arena, larder_seq seq, uint64_t n_tokens, larder_arena_copy* copies,
                                      uint32_t capacity, uint32_t* out_n_copies) noexcept {
    LARDER_API_HANDLE(arena, arena);
    CopyList list{copies, capacity, 0};
    const larder_status s = arena->seq_append(seq, n_tokens, list);
    if (out_n_copies) *out_n_copies = s < 0 ? 0 : list.n;
    return s;
}

larder_status larder_arena_seq_make_writable(larder_arena* arena, larder_seq seq, uint64_t first, uint64_t n,
                                             larder_arena_copy* copies, uint32_t capacity,
                                             uint32_t* out_n_copies) noexcept {
    LARDER_API_HANDLE(arena, arena);
    CopyList list{copies, capacity, 0};
    const larder_status s = arena->seq_make_writable(seq, first, n, list);
    if (out_n_copies) *out_n_copies = s < 0 ? 0 : list.n;
    return s;
}

larder_status larder_arena_seq_truncate(larder_arena* arena, larder_seq seq, uint64_t n_tokens) noexcept {
    LARDER_API_HANDLE(arena, arena);
    return arena->seq_truncate(seq, n_tokens);
}

larder_status larder_arena_seq_fork(larder_arena* arena, larder_seq seq, uint64_t n_tokens, uint32_t n,
                                    larder_seq* out_seqs) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n) LARDER_API_NONNULL(out_seqs);
    return arena->seq_fork(seq, n_tokens, {out_seqs, n});
}

larder_status larder_arena_seq_attach(larder_arena* arena, larder_seq seq, uint32_t group, const larder_block* blocks,
                                      uint64_t n_blocks, uint64_t n_tokens) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n_blocks) LARDER_API_NONNULL(blocks);
    return arena->seq_attach(seq, group, {blocks, n_blocks}, n_tokens);
}

larder_status larder_arena_seq_slide(larder_arena* arena, larder_seq seq, uint64_t n_computed) noexcept {
    LARDER_API_HANDLE(arena, arena);
    return arena->seq_slide(seq, n_computed);
}

larder_status larder_arena_seq_length(larder_arena* arena, larder_seq seq, uint64_t* out_n_tokens) noexcept {
    LARDER_API_HANDLE(arena, arena);
    LARDER_API_NONNULL(out_n_tokens);
    return arena->seq_length(seq, out_n_tokens);
}

larder_status larder_arena_seq_blocks(larder_arena* arena, larder_seq seq, uint32_t group, uint64_t first, uint64_t n,
                                      larder_block* out_blocks) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n) LARDER_API_NONNULL(out_blocks);
    return arena->seq_blocks(seq, group, first, {out_blocks, n});
}

larder_status larder_arena_seq_lookup(larder_arena* arena, larder_seq seq, uint32_t group, const uint32_t* entries,
                                      uint32_t n, int32_t* out_numbers) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n) LARDER_API_NONNULL(entries);
    if (n) LARDER_API_NONNULL(out_numbers);
    return arena->seq_lookup(seq, group, {entries, n}, out_numbers);
}

larder_status larder_arena_seq_runs(larder_arena* arena, larder_seq seq, uint32_t group, larder_arena_run* out_runs,
                                    uint64_t capacity, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (capacity) LARDER_API_NONNULL(out_runs);
    return arena->seq_runs(seq, group, {out_runs, capacity}, out_n);
}

larder_status larder_arena_seq_base(larder_arena* arena, larder_seq seq, uint32_t group, uint32_t layer,
                                    larder_plane plane, void** out_base) noexcept {
    LARDER_API_HANDLE(arena, arena);
    LARDER_API_NONNULL(out_base);
    return arena->seq_base(seq, group, layer, plane, out_base);
}

larder_status larder_arena_block_table(larder_arena* arena, uint32_t group, const larder_seq* seqs, uint32_t n_seqs,
                                       uint32_t n_rows, int32_t* dst, uint64_t row_stride) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n_seqs) LARDER_API_NONNULL(seqs);
    if (n_rows && row_stride) LARDER_API_NONNULL(dst);
    return arena->block_table(group, {seqs, n_seqs}, n_rows, dst, row_stride);
}

larder_status larder_arena_block_csr(larder_arena* arena, uint32_t group, const larder_seq* seqs, uint32_t n_seqs,
                                     uint32_t n_rows, int32_t* indptr, int32_t* indices, uint64_t capacity,
                                     int32_t* last_page_len, uint64_t* out_n_indices) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n_seqs) LARDER_API_NONNULL(seqs);
    LARDER_API_NONNULL(indptr);
    if (capacity) LARDER_API_NONNULL(indices);
    if (n_rows) LARDER_API_NONNULL(last_page_len);
    return arena->block_csr(group, {seqs, n_seqs}, n_rows, indptr, indices, capacity, last_page_len, out_n_indices);
}

larder_status larder_arena_block_pointers(larder_arena* arena, uint32_t group, uint32_t layer, larder_plane plane,
                                          const larder_seq* seqs, uint32_t n_seqs, uint32_t n_rows, void** dst,
                                          uint64_t row_stride) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n_seqs) LARDER_API_NONNULL(seqs);
    if (n_rows && row_stride) LARDER_API_NONNULL(dst);
    return arena->block_pointers(group, layer, plane, {seqs, n_seqs}, n_rows, dst, row_stride);
}

larder_status larder_arena_slot_mapping(larder_arena* arena, uint32_t group, const larder_arena_range* ranges,
                                        uint32_t n_ranges, void* dst, uint32_t entry_bytes, uint64_t n_entries,
                                        uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(arena, arena);
    if (n_ranges) LARDER_API_NONNULL(ranges);
    if (n_entries) LARDER_API_NONNULL(dst);
    return arena->slot_mapping(group, {ranges, n_ranges}, dst, entry_bytes, n_entries, out_n);
}

larder_status larder_arena_export(larder_arena* arena, int32_t* out_fd) noexcept {
    LARDER_API_HANDLE(arena, arena);
    LARDER_API_NONNULL(out_fd);
    return arena->export_fd(out_fd);
}

larder_status larder_arena_join(larder_context* context, larder_layout* layout, const larder_arena_options* options,
                                int32_t fd, larder_arena** out_arena) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_HANDLE_OF(context, layout, layout);
    LARDER_API_NONNULL(out_arena);
    *out_arena = nullptr;
    return larder_arena::join(*context, *layout, options, OsHandle{fd}, out_arena);
    LARDER_API_END
}

larder_status larder_arena_reap(larder_arena* arena, uint64_t* out_n_blocks) noexcept {
    LARDER_API_HANDLE(arena, arena);
    return arena->reap(out_n_blocks);
}

larder_status larder_arena_verify(larder_arena* arena) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(arena, arena);
    return arena->verify();
    LARDER_API_END
}

larder_status larder_arena_trim(larder_arena* arena, uint64_t keep_bytes) noexcept {
    LARDER_API_HANDLE(arena, arena);
    return arena->trim(keep_bytes);
}
