// The table of liblarder-redis.so.
#include <new>

#include "request.h"

using namespace larder_redis;

namespace {

int32_t score() {
    return 1;
}

larder_status open(const larder_remote_host_v1* host, const larder_remote_setting_v1* settings, uint32_t n,
                   void** out) {
    try {
        auto r = make<Redis>(*host, *host);
        if (const larder_status s = r->open(settings, n); s < 0) return s;
        *out = r.release();
        return LARDER_OK;
    } catch (const std::bad_alloc&) {
        return fail(*host, LARDER_E_NOMEM, 0, "no memory for a remote");
    }
}

void close(void* r) {
    Redis* redis = static_cast<Redis*>(r);
    HostDelete<Redis>{&redis->host}(redis);
}

void caps(void* r, larder_remote_caps_v1* out) {
    const uint32_t size = out->struct_size;
    *out = {};
    out->struct_size = size;
    out->max_items = Redis::max_items;
    out->max_value_bytes = Redis::max_value_bytes;
    out->preferred_value_bytes = static_cast<Redis*>(r)->settings.part_bytes;
}

void counters(void* r, larder_remote_counters_v1* out) {
    static_cast<Redis*>(r)->read_counters(*out);
}

larder_status register_memory(void*, void*, uint64_t, uint64_t* out_region) {
    *out_region = 0;
    return LARDER_OK;
}

void unregister_memory(void*, uint64_t) {}

larder_status prepare(void* r, const larder_remote_batch_v1* b, void** out) {
    Redis& redis = *static_cast<Redis*>(r);
    const Host& host = redis.host;
    if (b->op < LARDER_REMOTE_PUT || b->op > LARDER_REMOTE_REMOVE)
        return fail(host, LARDER_E_INVALID, 0, "a batch asks for something unknown");
    if (!b->n_items || b->n_items > Redis::max_items)
        return fail(host, LARDER_E_RANGE, 0, "a batch has 1 to %u items", Redis::max_items);
    const bool moves = b->op == LARDER_REMOTE_PUT || b->op == LARDER_REMOTE_GET;
    for (uint32_t i = 0; i < b->n_items; ++i) {
        const larder_remote_item_v1& item = b->items[i];
        bool good = moves ? item.n_pieces && item.n_pieces <= 1024 : !item.n_pieces;
        for (uint32_t k = 0; k < item.n_pieces && good; ++k) good = item.pieces[k].data && item.pieces[k].n_bytes;
        if (!good || (b->op != LARDER_REMOTE_GET && item.offset))
            return fail(host, LARDER_E_INVALID, 0, "an item's pieces or offset cannot be");
    }
    try {
        *out = make<Request>(host, redis, *b).release();
        return LARDER_OK;
    } catch (const std::bad_alloc&) {
        return fail(host, LARDER_E_NOMEM, 0, "no memory for a request");
    }
}

larder_status post(void*, void* q, uint64_t timeout_ns) {
    return static_cast<Request*>(q)->post(timeout_ns);
}

larder_status check(void*, void* q, uint64_t wait_ns) {
    return static_cast<Request*>(q)->check(wait_ns);
}

void release(void* r, void* q) {
    HostDelete<Request>{&static_cast<Redis*>(r)->host}(static_cast<Request*>(q));
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const larder_remote_table_v1* larder_remote_plugin_v1() {
    static const larder_remote_table_v1 table = {
        1,        sizeof table,    "redis",           score,   open, close, caps,
        counters, register_memory, unregister_memory, prepare, post, check, release,
    };
    return &table;
}
