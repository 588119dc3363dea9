#include "larder/adapter.h"

#include "api/guard.h"
#include "codec/adapter.h"

using namespace larder;

namespace {

ByteSpan bytes_of(larder_span s) noexcept {
    return {static_cast<const std::byte*>(s.data), s.n_bytes};
}

}  // namespace

larder_status larder_adapter_encode(const larder_adapter_options* options, const larder_adapter_matrix* matrices,
                                    uint32_t n_matrices, void* out, uint64_t capacity, uint64_t* out_n_bytes) noexcept {
    LARDER_API_NONNULL(matrices);
    LARDER_API_NONNULL(out_n_bytes);
    if (capacity) LARDER_API_NONNULL(out);
    return adapter_encode(options, matrices, n_matrices, {static_cast<std::byte*>(out), capacity}, *out_n_bytes);
}

larder_status larder_adapter_inspect(larder_span adapter, larder_adapter_info* out) noexcept {
    if (adapter.n_bytes) LARDER_API_NONNULL(adapter.data);
    AdapterHeader h;
    LARDER_TRY(read_adapter(bytes_of(adapter), h));
    larder_adapter_info info = LARDER_ADAPTER_INFO_INIT;
    info.kind = h.kind;
    info.n_matrices = h.n_matrices;
    info.bits = h.bits;
    info.n_modules = h.n_modules;
    info.has_base = h.has_base;
    info.n_bytes = h.total_bytes;
    info.identity = h.identity;
    return write_struct(out, info, "larder_adapter_info");
}

larder_status larder_adapter_entry_at(larder_span adapter, uint32_t index, larder_adapter_entry* out) noexcept {
    if (adapter.n_bytes) LARDER_API_NONNULL(adapter.data);
    AdapterHeader h;
    LARDER_TRY(read_adapter(bytes_of(adapter), h));
    larder_adapter_entry entry;
    LARDER_TRY(adapter_entry(h, index, entry));
    return write_struct(out, entry, "larder_adapter_entry");
}

larder_status larder_adapter_decode(larder_span adapter, uint32_t index, const larder_key* expect_identity,
                                    const uint32_t* modules, uint32_t n_modules, float* out,
                                    uint64_t n_weights) noexcept {
    if (adapter.n_bytes) LARDER_API_NONNULL(adapter.data);
    LARDER_API_NONNULL(out);
    if (n_modules) LARDER_API_NONNULL(modules);
    return adapter_decode(bytes_of(adapter), index, expect_identity, modules, n_modules, out, n_weights);
}
