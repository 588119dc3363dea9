#include "larder/lora.h"

#include "api/guard.h"
#include "lora/lora.h"

using namespace larder;

larder_status larder_lora_create(larder_context* context, const larder_lora_options* options,
                                 larder_lora** out_lora) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_lora);
    *out_lora = nullptr;
    return larder_lora::create(*context, options, out_lora);
    LARDER_API_END
}

void larder_lora_destroy(larder_lora* lora) noexcept {
    if (lora && check_handle(lora, HandleType::lora, "lora") >= 0) lora->context->drop_handle(lora);
}

larder_status larder_lora_register(larder_lora* lora, uint32_t rank, float scaling, uint64_t user_data,
                                   larder_lora_adapter* out_adapter) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(lora, lora);
    LARDER_API_NONNULL(out_adapter);
    return lora->add(rank, scaling, user_data, *out_adapter);
    LARDER_API_END
}

larder_status larder_lora_unregister(larder_lora* lora, larder_lora_adapter adapter) noexcept {
    LARDER_API_HANDLE(lora, lora);
    return lora->remove(adapter);
}

larder_status larder_lora_prefetch(larder_lora* lora, const larder_lora_adapter* adapters, uint32_t n,
                                   larder_status* statuses) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(lora, lora);
    if (n) LARDER_API_NONNULL(adapters);
    if (n) LARDER_API_NONNULL(statuses);
    return lora->prefetch({adapters, n}, statuses);
    LARDER_API_END
}

larder_status larder_lora_acquire(larder_lora* lora, const larder_lora_adapter* adapters, uint32_t n,
                                  larder_status* statuses) noexcept {
    LARDER_API_HANDLE(lora, lora);
    if (n) LARDER_API_NONNULL(adapters);
    if (n) LARDER_API_NONNULL(statuses);
    return lora->acquire({adapters, n}, statuses);
}

larder_status larder_lora_release(larder_lora* lora, const larder_lora_adapter* adapters, uint32_t n) noexcept {
    LARDER_API_HANDLE(lora, lora);
    if (n) LARDER_API_NONNULL(adapters);
    return lora->release({adapters, n});
}

larder_status larder_lora_loaded(larder_lora* lora, larder_lora_adapter adapter, larder_status result) noexcept {
    LARDER_API_HANDLE(lora, lora);
    return lora->loaded(adapter, result);
}

larder_status larder_lora_tables(larder_lora* lora, const larder_lora_adapter* adapters, uint32_t n, int32_t* cells,
                                 uint32_t capacity, uint32_t* starts, float* scalings) noexcept {
    LARDER_API_HANDLE(lora, lora);
    if (n) LARDER_API_NONNULL(adapters);
    if (capacity) LARDER_API_NONNULL(cells);
    LARDER_API_NONNULL(starts);
    return lora->tables({adapters, n}, {cells, capacity}, starts, scalings);
}

larder_status larder_lora_make_room(larder_lora* lora, uint32_t n_cells) noexcept {
    LARDER_API_HANDLE(lora, lora);
    return lora->make_room(n_cells);
}

larder_status larder_lora_move(larder_lora* lora, const larder_cells_move* moves, uint32_t n) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(lora, lora);
    if (n) LARDER_API_NONNULL(moves);
    return lora->move({moves, n});
    LARDER_API_END
}

larder_status larder_lora_query(const larder_lora* lora, larder_lora_state* out) noexcept {
    LARDER_API_HANDLE(lora, lora);
    larder_lora_state state;
    const_cast<larder_lora*>(lora)->query(state);
    return write_struct(out, state, "larder_lora_state");
}
