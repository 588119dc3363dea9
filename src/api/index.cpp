#include "larder/index.h"

#include "api/guard.h"
#include "index/ordered_map.h"

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
    const uint64_t n_found = index->map->get_many(keys, n, out_values, out_status);
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
    const uint64_t n_removed = index->map->remove_many(keys, n, out_status);
    if (out_n_removed) *out_n_removed = n_removed;
    return LARDER_OK;
}

larder_status larder_index_scan(larder_index* index, larder_index_from from, const void* key, void* out_keys,
                                void* out_values, uint64_t n, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(out_n);
    *out_n = 0;
    LARDER_TRY(check_range(uint32_t(from), LARDER_INDEX_AT_LEAST, LARDER_INDEX_BELOW, "from"));
    *out_n = index->map->scan(from, key, out_keys, out_values, n);
    return n && !*out_n ? LARDER_MISS : LARDER_OK;
}

larder_status larder_index_count(larder_index* index, uint64_t* out_n) noexcept {
    LARDER_API_HANDLE(index, index);
    LARDER_API_NONNULL(out_n);
    *out_n = index->map->count();
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
