#include "expert/source.h"

#include <cstring>

#include "base/options.h"

namespace larder {

larder_status ExpertSource::open(const larder_expert_precision& p, uint32_t n_layers, uint32_t n_experts) {
    p_ = p;
    n_experts_ = n_experts;
    if (!p_.expert_stride_bytes) p_.expert_stride_bytes = p_.n_bytes;
    LARDER_TRY(check_range(p_.expert_stride_bytes, p_.n_bytes, uint64_t(1) << 40, "expert_stride_bytes"));
    if (!p_.layer_stride_bytes) p_.layer_stride_bytes = n_experts * p_.expert_stride_bytes;
    LARDER_TRY(check_range(p_.layer_stride_bytes, 1, uint64_t(1) << 50, "layer_stride_bytes"));
    const size_t n = size_t(n_layers) * n_experts;
    if (p.crc32c) sums_.assign(p.crc32c, p.crc32c + n);
    switch (p.source) {
    case LARDER_EXPERT_SOURCE_MEMORY:
        return p.memory ? LARDER_OK : fail(LARDER_E_INVALID, "memory", "memory is NULL");
    case LARDER_EXPERT_SOURCE_FILE:
        return p.path ? open_file(n_layers) : fail(LARDER_E_INVALID, "path", "path is NULL");
    case LARDER_EXPERT_SOURCE_STORE:
        LARDER_TRY(check_handle(p.store, HandleType::store, "store"));
        if (!p.keys) return fail(LARDER_E_INVALID, "keys", "keys is NULL");
        if (!p.want) return fail(LARDER_E_INVALID, "want", "want is NULL");
        LARDER_TRY(larder_store::read_want(p.want, want_));
        keys_.assign(p.keys, p.keys + n);
        return LARDER_OK;
    case LARDER_EXPERT_SOURCE_CALLBACK:
        return p.load.fn ? LARDER_OK : fail(LARDER_E_INVALID, "load", "load.fn is NULL");
    default:
        return fail(LARDER_E_INVALID, "source", "there is no source %d", p.source);
    }
}

larder_status ExpertSource::open_file(uint32_t n_layers) {
    LARDER_ASSIGN(const OpenFile f, os_.open(p_.path, open_flag::read));
    file_ = f.handle;
    const uint64_t end = p_.offset_bytes + place(n_layers - 1, n_experts_ - 1) + p_.n_bytes;
    if (p_.offset_bytes > uint64_t(1) << 60 || end > f.n_bytes)
        return fail(LARDER_E_TRUNCATED, "path", "the file has %llu bytes; the last expert ends at %llu",
                    (unsigned long long)f.n_bytes, (unsigned long long)end);
    return LARDER_OK;
}

void ExpertSource::close() noexcept {
    if (p_.source == LARDER_EXPERT_SOURCE_CALLBACK && p_.load.drop) p_.load.drop(p_.load.ctx);
}

const std::byte* ExpertSource::memory(uint32_t layer, uint32_t expert) const noexcept {
    if (p_.source != LARDER_EXPERT_SOURCE_MEMORY) return nullptr;
    return static_cast<const std::byte*>(p_.memory) + place(layer, expert);
}

static larder_status store_failure(larder_status s) {
    if (s < 0) return s;
    if (s == LARDER_RETRY) return fail(LARDER_E_BUSY, "store", "the object is being put just now");
    return fail(LARDER_E_NOT_FOUND, "store", "the store does not have the expert, or dropped it as damaged");
}

larder_status ExpertSource::read(uint32_t layer, uint32_t expert, uint64_t offset, void* dst, uint64_t n_bytes) {
    if (const std::byte* from = memory(layer, expert)) {
        std::memcpy(dst, from + offset, n_bytes);
        return LARDER_OK;
    }
    if (p_.source == LARDER_EXPERT_SOURCE_FILE)
        return os_.read_all(file_, dst, n_bytes, p_.offset_bytes + place(layer, expert) + offset);
    if (p_.source == LARDER_EXPERT_SOURCE_STORE) {
        larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
        item.key = keys_[size_t(layer) * n_experts_ + expert];
        item.want = &want_;
        item.buffer = dst;
        item.capacity = item.n_bytes = n_bytes;
        item.offset = offset;
        larder_store_get_result result{};
        p_.store->get({&item, 1}, &result);
        return result.status == LARDER_OK ? LARDER_OK : store_failure(result.status);
    }
    const larder_status s = p_.load.fn(p_.load.ctx, layer, expert, offset, dst, n_bytes);
    return s <= 0 ? s : fail(LARDER_E_INVALID, "load", "the callback returned %d", s);
}

}  // namespace larder
