#include "larder/remote.h"

#include "api/guard.h"
#include "store/store.h"

using namespace larder;

larder_status larder_store_remote_info(larder_store* store, larder_remote_info* out) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    LARDER_TRY(check_output(out, "larder_remote_info"));
    larder_remote_info info = LARDER_REMOTE_INFO_INIT;
    LARDER_TRY(store->remote_info(info));
    return write_struct(out, info, "larder_remote_info");
    LARDER_API_END
}

larder_status larder_store_lookup_within(larder_store* store, const larder_key* keys, uint32_t n,
                                         const larder_object_want* want, uint64_t timeout_ns, larder_object_info* infos,
                                         uint32_t info_stride) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    if (n == 0) return LARDER_OK;
    LARDER_API_NONNULL(keys);
    LARDER_API_NONNULL(infos);
    LARDER_TRY(check_range(info_stride, 8, 65536, "info_stride"));
    const auto at = [&](uint32_t i) {
        return reinterpret_cast<larder_object_info*>(reinterpret_cast<unsigned char*>(infos) + size_t(info_stride) * i);
    };
    for (uint32_t i = 0; i < n; ++i) {
        LARDER_TRY(check_output(at(i), "larder_object_info"));
        if (at(i)->struct_size > info_stride)
            return fail(LARDER_E_INVALID, "info_stride", "info_stride is less than the struct_size of item %u", i);
    }
    larder_object_want w;
    if (want) LARDER_TRY(larder_store::read_want(want, w));
    Vec<larder_object_info> found(n, larder_object_info LARDER_OBJECT_INFO_INIT, store->context->alloc);
    store->lookup_within(keys, n, want ? &w : nullptr, timeout_ns, found.data());
    for (uint32_t i = 0; i < n; ++i) LARDER_TRY(write_struct(at(i), found[i], "larder_object_info"));
    return LARDER_OK;
    LARDER_API_END
}

larder_status larder_store_remote_flush(larder_store* store, uint64_t timeout_ns) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(store, store);
    return store->remote_flush(timeout_ns);
    LARDER_API_END
}
