#include "larder/prefix.h"

#include "api/guard.h"
#include "index/prefix_index.h"

using namespace larder;

larder_status larder_prefix_root(const larder_prefix_scope* scope, larder_key* out_root) noexcept {
    LARDER_API_NONNULL(out_root);
    larder_prefix_scope s;
    LARDER_TRY(read_options(scope, s, "larder_prefix_scope"));
    LARDER_TRY(check_reserved(s.reserved0, "reserved0"));
    if (s.layout) LARDER_API_HANDLE(s.layout, layout);
    return prefix_root(s, *out_root);
}

larder_status larder_prefix_keys(const larder_key* parent, const larder_prefix_tokens* tokens, larder_key* out_keys,
                                 uint64_t capacity, uint64_t* out_n) noexcept {
    LARDER_API_NONNULL(parent);
    LARDER_API_NONNULL(tokens);
    if (capacity) LARDER_API_NONNULL(out_keys);
    larder_prefix_tokens t;
    LARDER_TRY(read_options(tokens, t, "larder_prefix_tokens"));
    LARDER_TRY(check_prefix_tokens(t));
    const uint64_t n = t.n_tokens / t.block_tokens;
    if (out_n) *out_n = n;
    prefix_keys(*parent, t, {out_keys, size_t(std::min(n, capacity))});
    if (n > capacity)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "there are %llu full blocks", (unsigned long long)n);
    return LARDER_OK;
}

larder_status larder_prefix_create(larder_context* context, const larder_prefix_options* options,
                                   larder_prefix** out_prefix) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_prefix);
    *out_prefix = nullptr;
    larder_prefix_options o;
    LARDER_TRY(PrefixIndex::read_prefix_options(options, o));
    larder_prefix* p = context->make_handle<larder_prefix>(*context, o);
    const larder_status s = p->index.init();
    if (s < 0) {
        context->drop_handle(p);
        return s;
    }
    *out_prefix = p;
    return LARDER_OK;
    LARDER_API_END
}

void larder_prefix_destroy(larder_prefix* prefix) noexcept {
    if (prefix && check_handle(prefix, HandleType::prefix, "prefix") >= 0) prefix->context->drop_handle(prefix);
}

larder_status larder_prefix_match(larder_prefix* prefix, const larder_prefix_query* query,
                                  larder_prefix_block* out_blocks, uint32_t stride, uint64_t capacity,
                                  larder_prefix_match_info* out_info) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(query);
    LARDER_API_NONNULL(out_info);
    larder_prefix_query q;
    LARDER_TRY(read_options(query, q, "larder_prefix_query"));
    if (q.flags & ~LARDER_PREFIX_PEEK)
        return fail(LARDER_E_TOO_NEW, "flags", "flags 0x%x has a bit that this library does not know", q.flags);
    if (out_blocks && stride != sizeof *out_blocks)
        return fail(LARDER_E_INVALID, "stride", "stride must be sizeof(larder_prefix_block)");
    larder_prefix_match_info info = LARDER_PREFIX_MATCH_INFO_INIT;
    if (out_info->struct_size < 8)
        return fail(LARDER_E_INVALID, "struct_size", "initialise out_info with its _INIT macro");
    LARDER_TRY(prefix->index.match(q, {out_blocks, size_t(out_blocks ? capacity : 0)}, info));
    return write_struct(out_info, info, "larder_prefix_match_info");
    LARDER_API_END
}

larder_status larder_prefix_lookup(larder_prefix* prefix, const larder_key* key,
                                   larder_prefix_block* out_block) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(key);
    LARDER_API_NONNULL(out_block);
    return prefix->index.lookup(*key, *out_block);
}

larder_status larder_prefix_pin(larder_prefix* prefix, const larder_prefix_entry* entries, uint64_t n) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    if (n) LARDER_API_NONNULL(entries);
    return prefix->index.pin({entries, size_t(n)});
}

larder_status larder_prefix_unpin(larder_prefix* prefix, const larder_prefix_entry* entries, uint64_t n) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    if (n) LARDER_API_NONNULL(entries);
    return prefix->index.unpin({entries, size_t(n)});
}

larder_status larder_prefix_touch(larder_prefix* prefix, const larder_prefix_entry* entries, uint64_t n) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    if (n) LARDER_API_NONNULL(entries);
    prefix->index.touch({entries, size_t(n)});
    return LARDER_OK;
}

larder_status larder_prefix_publish(larder_prefix* prefix, const larder_key* root, larder_prefix_entry parent,
                                    const larder_prefix_item* items, uint64_t n, uint32_t pin,
                                    larder_prefix_published* out, uint64_t* out_n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(root);
    LARDER_API_NONNULL(out_n);
    *out_n = 0;
    if (n) {
        LARDER_API_NONNULL(items);
        LARDER_API_NONNULL(out);
    }
    LARDER_TRY(check_range(pin, 0, 1, "pin"));
    return prefix->index.publish(*root, parent, {items, size_t(n)}, pin != 0, {out, size_t(n)}, *out_n);
    LARDER_API_END
}

larder_status larder_prefix_add(larder_prefix* prefix, larder_prefix_entry entry, uint32_t residency,
                                uint64_t location) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    return prefix->index.add(entry, residency, location);
}

larder_status larder_prefix_drop(larder_prefix* prefix, larder_prefix_entry entry, uint32_t residency,
                                 larder_prefix_block* out_block) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    return prefix->index.drop(entry, residency, out_block);
}

larder_status larder_prefix_remove(larder_prefix* prefix, larder_prefix_entry entry, larder_prefix_block* out,
                                   uint64_t capacity, uint64_t* out_n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(out);
    LARDER_API_NONNULL(out_n);
    LARDER_TRY(check_range(capacity, 1, SIZE_MAX, "capacity"));
    return prefix->index.remove(entry, {out, size_t(capacity)}, *out_n);
    LARDER_API_END
}

larder_status larder_prefix_candidates(larder_prefix* prefix, uint32_t residency, larder_prefix_block* out, uint64_t n,
                                       uint64_t* out_n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(out_n);
    if (n) LARDER_API_NONNULL(out);
    return prefix->index.candidates(residency, {out, size_t(n)}, *out_n);
    LARDER_API_END
}

larder_status larder_prefix_children(larder_prefix* prefix, const larder_key* root, larder_prefix_entry entry,
                                     larder_prefix_entry after, larder_prefix_block* out, uint64_t n,
                                     uint64_t* out_n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(out_n);
    if (n) LARDER_API_NONNULL(out);
    return prefix->index.children(root, entry, after, {out, size_t(n)}, *out_n);
    LARDER_API_END
}

larder_status larder_prefix_describe(larder_prefix* prefix, larder_prefix_entry entry, larder_key* out_key,
                                     larder_prefix_entry* out_parent, int32_t* out_tokens, uint64_t capacity,
                                     uint64_t* out_n_tokens) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    return prefix->index.describe(entry, out_key, out_parent, {out_tokens, size_t(out_tokens ? capacity : 0)},
                                  out_n_tokens);
}

larder_status larder_prefix_set_tag(larder_prefix* prefix, larder_prefix_entry entry, uint32_t tag) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    return prefix->index.set_tag(entry, tag);
}

larder_status larder_prefix_events_read(larder_prefix* prefix, uint64_t* cursor, larder_event* out, uint32_t stride,
                                        uint64_t n, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(cursor);
    LARDER_API_NONNULL(out_n);
    if (n) LARDER_API_NONNULL(out);
    LARDER_TRY(check_event_stride(stride));
    return prefix->index.read_events(*cursor, out, stride, n, *out_n);
}

larder_status larder_prefix_events_snapshot(larder_prefix* prefix, uint64_t* position, uint64_t* cursor,
                                            larder_event* out, uint32_t stride, uint64_t n, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(position);
    LARDER_API_NONNULL(cursor);
    LARDER_API_NONNULL(out);
    LARDER_API_NONNULL(out_n);
    LARDER_TRY(check_event_stride(stride));
    LARDER_TRY(check_range(n, 1, SIZE_MAX, "n"));
    return prefix->index.snapshot(*position, *cursor, out, stride, n, *out_n);
}

larder_status larder_prefix_export(larder_prefix* prefix, uint32_t places, const larder_index_sink* sink) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(sink);
    LARDER_API_NONNULL(sink->write);
    return prefix->index.save(places, *sink);
    LARDER_API_END
}

larder_status larder_prefix_import(larder_prefix* prefix, const larder_index_source* source,
                                   larder_prefix_import_info* out_info) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(prefix, prefix);
    LARDER_API_NONNULL(source);
    LARDER_API_NONNULL(source->read);
    if (out_info) LARDER_TRY(check_output(out_info, "larder_prefix_import_info"));
    larder_prefix_import_info info = LARDER_PREFIX_IMPORT_INFO_INIT;
    larder_status s = LARDER_E_NOMEM;
    try {
        s = prefix->index.load(*source, info);
    } catch (const std::bad_alloc&) {
        fail(s, "", "the allocator gave no memory");
    }
    if (out_info) write_struct(out_info, info, "larder_prefix_import_info");
    return s;
    LARDER_API_END
}

larder_status larder_prefix_get_info(larder_prefix* prefix, larder_prefix_info* out_info) noexcept {
    LARDER_API_HANDLE(prefix, prefix);
    larder_prefix_info info = LARDER_PREFIX_INFO_INIT;
    prefix->index.info(info);
    return write_struct(out_info, info, "larder_prefix_info");
}

larder_status larder_prefix_verify(larder_prefix* prefix) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(prefix, prefix);
    return prefix->index.verify();
    LARDER_API_END
}
