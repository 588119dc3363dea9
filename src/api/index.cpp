#include "larder/index.h"

#include "api/guard.h"
#include "index/ordered_map.h"
#include "index/snapshot_view.h"

using namespace larder;

larder_status larder_index_create(larder_context* context, const larder_index_options* options,
                                  larder_index** out_index) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_index);
    *out_index = nullptr;
    Owned<OrderedMap> map;
    LARDER_TRY(OrderedMap::create(*context, options, map));
    *out_index = context->make_handle<larder_index>(*context);
    (*out_index)->map = std::move(map);
    return LARDER_OK;
    LARDER_API_END
}

void larder_index_destroy(larder_index* index) noexcept {
    if (index && check_handle(index, HandleType::index, "index") >= 0) index->context->drop_handle(index);
}

larder_status larder_index_get(larder_index* index, const void* key, void* out_value) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(key);
    return index->map->get(key, out_value);
}

larder_status larder_index_put(larder_index* index, const void* key, const void* value) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(key);
    LARDER_API_NONNULL(value);
    return index->map->put(key, value);
}

larder_status larder_index_insert(larder_index* index, const void* key, const void* value, void* out_present) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(key);
    LARDER_API_NONNULL(value);
    return index->map->insert(key, value, out_present);
}

larder_status larder_index_swap(larder_index* index, const void* key, void* expected, const void* value) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(key);
    LARDER_API_NONNULL(expected);
    LARDER_API_NONNULL(value);
    return index->map->swap(key, expected, value);
}

larder_status larder_index_remove(larder_index* index, const void* key, void* out_value) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(key);
    return index->map->remove(key, out_value);
}

larder_status larder_index_get_many(larder_index* index, const void* keys, uint64_t n, void* out_values,
                                    larder_status* out_status, uint64_t* out_n_found) noexcept {
    LARDER_API_HANDLE(index, index);
    if (n) LARDER_API_NONNULL(keys);
    uint64_t n_found = 0;
    LARDER_TRY(index->map->get_many(keys, n, out_values, out_status, n_found));
    if (out_n_found) *out_n_found = n_found;
    return LARDER_OK;
}

larder_status larder_index_put_many(larder_index* index, const void* keys, const void* values, uint64_t n,
                                    larder_status* out_status) noexcept {
    LARDER_API_HANDLE(index, index);
    if (n) {
        LARDER_API_NONNULL(keys);
        LARDER_API_NONNULL(values);
    }
    return index->map->put_many(keys, values, n, out_status);
}

larder_status larder_index_remove_many(larder_index* index, const void* keys, uint64_t n, larder_status* out_status,
                                       uint64_t* out_n_removed) noexcept {
    LARDER_API_HANDLE(index, index);
    if (n) LARDER_API_NONNULL(keys);
    uint64_t n_removed = 0;
    LARDER_TRY(index->map->remove_many(keys, n, out_status, n_removed));
    if (out_n_removed) *out_n_removed = n_removed;
    return LARDER_OK;
}

larder_status larder_index_scan(larder_index* index, larder_index_from from, const void* key, void* out_keys,
                                void* out_values, uint64_t n, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(out_n);
    *out_n = 0;
    LARDER_TRY(check_range(uint32_t(from), LARDER_INDEX_AT_LEAST, LARDER_INDEX_BELOW, "from"));
    LARDER_TRY(index->map->scan(from, key, out_keys, out_values, n, *out_n));
    return n && !*out_n ? LARDER_MISS : LARDER_OK;
}

larder_status larder_index_scan_keys(larder_index* index, larder_index_from from, const larder_index_key* key,
                                     void* buffer, uint64_t buffer_bytes, larder_index_key* out_keys, void* out_values,
                                     uint64_t n, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(out_n);
    *out_n = 0;
    LARDER_API_NONNULL(buffer);
    if (n) LARDER_API_NONNULL(out_keys);
    LARDER_TRY(check_range(uint32_t(from), LARDER_INDEX_AT_LEAST, LARDER_INDEX_BELOW, "from"));
    LARDER_TRY(check_range(buffer_bytes, LARDER_INDEX_MAX_KEY_BYTES, UINT64_MAX, "buffer_bytes"));
    const MutByteSpan bytes(static_cast<std::byte*>(buffer), buffer_bytes);
    const larder_status s = index->map->scan_keys(from, key, bytes, out_keys, out_values, n, *out_n);
    return s == LARDER_OK && n && !*out_n ? LARDER_MISS : s;
}

larder_status larder_index_count(larder_index* index, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(out_n);
    *out_n = index->map->count();
    return LARDER_OK;
}

larder_status larder_index_estimate(larder_index* index, const void* first, const void* end, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(out_n);
    *out_n = 0;
    double from = 0, to = 1;
    if (first) LARDER_TRY(index->map->share_below(first, from));
    if (end) LARDER_TRY(index->map->share_below(end, to));
    if (to > from) *out_n = uint64_t((to - from) * double(index->map->count()) + 0.5);
    return LARDER_OK;
}

larder_status larder_index_build(larder_index* index, const void* keys, const void* values, uint64_t n) noexcept {
    LARDER_API_HANDLE(index, index);
    if (n) {
        LARDER_API_NONNULL(keys);
        LARDER_API_NONNULL(values);
    }
    if (index->map->count()) return fail(LARDER_E_STATE, "index", "the index is not empty");
    return index->map->build(keys, values, n);
}

larder_status larder_index_save(larder_index* index, const larder_index_sink* sink) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(sink);
    LARDER_API_NONNULL(sink->write);
    return index->map->save(*sink);
    LARDER_API_END
}

larder_status larder_index_load(larder_index* index, const larder_index_source* source) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(source);
    LARDER_API_NONNULL(source->read);
    return index->map->load(*source);
    LARDER_API_END
}

larder_status larder_index_get_info(larder_index* index, larder_index_info* out_info) noexcept {
    LARDER_API_HANDLE(index, index);
    const bskip::Totals t = index->map->totals();
    larder_index_info info = LARDER_INDEX_INFO_INIT;
    info.n_levels = t.n_levels;
    info.n_keys = t.n_keys;
    info.n_nodes = t.n_nodes;
    info.n_leaves = t.n_leaves;
    info.n_free_nodes = t.n_free_nodes;
    info.memory_bytes = index->map->memory_bytes();
    info.record_bytes = index->map->record_bytes();
    return write_struct(out_info, info, "larder_index_info");
}

larder_status larder_index_clear(larder_index* index) noexcept {
    LARDER_API_HANDLE(index, index);
    return index->map->clear();
}

larder_status larder_index_verify(larder_index* index) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(index, index);
    return index->map->verify();
    LARDER_API_END
}

larder_status larder_index_view_open(larder_context* context, const void* data, uint64_t n_bytes,
                                     larder_index_view** out_view) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(data);
    LARDER_API_NONNULL(out_view);
    *out_view = nullptr;
    auto* view =
        context->make_handle<larder_index_view>(*context, ByteSpan(static_cast<const std::byte*>(data), n_bytes));
    const larder_status s = view->view.open();
    if (s < 0) return context->drop_handle(view), s;
    *out_view = view;
    return LARDER_OK;
    LARDER_API_END
}

void larder_index_view_close(larder_index_view* view) noexcept {
    if (view && check_handle(view, HandleType::index_view, "view") >= 0) view->context->drop_handle(view);
}

larder_status larder_index_view_get_info(larder_index_view* view, larder_index_view_info* out_info) noexcept {
    LARDER_API_HANDLE(view, index_view);
    larder_index_view_info info = LARDER_INDEX_VIEW_INFO_INIT;
    view->view.describe(info);
    return write_struct(out_info, info, "larder_index_view_info");
}

larder_status larder_index_view_get(larder_index_view* view, const void* key, void* out_value) noexcept {
    LARDER_API_HANDLE(view, index_view);
    LARDER_API_NONNULL(key);
    return view->view.get(key, out_value);
}

larder_status larder_index_view_scan(larder_index_view* view, larder_index_from from, const void* key, void* out_keys,
                                     void* out_values, uint64_t n, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(view, index_view);
    LARDER_API_NONNULL(out_n);
    *out_n = 0;
    LARDER_TRY(check_range(uint32_t(from), LARDER_INDEX_AT_LEAST, LARDER_INDEX_BELOW, "from"));
    LARDER_TRY(view->view.scan(from, key, out_keys, out_values, n, *out_n));
    return n && !*out_n ? LARDER_MISS : LARDER_OK;
}

larder_status larder_index_view_verify(larder_index_view* view) noexcept {
    LARDER_API_HANDLE(view, index_view);
    return view->view.verify();
}
