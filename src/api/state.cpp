#include "larder/state.h"

#include "api/guard.h"
#include "memory/states.h"

using namespace larder;

larder_status larder_states_create(larder_context* context, const larder_states_options* options,
                                   larder_states** out_states) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_states);
    *out_states = nullptr;
    return larder_states::create(*context, options, out_states);
    LARDER_API_END
}

void larder_states_destroy(larder_states* states) noexcept {
    if (states && check_handle(states, HandleType::states, "states") >= 0) states->context->drop_handle(states);
}

larder_status larder_states_alloc(larder_states* states, uint32_t n, larder_state* out) noexcept {
    LARDER_API_HANDLE(states, states);
    if (n) LARDER_API_NONNULL(out);
    return states->alloc({out, n});
}

larder_status larder_states_free(larder_states* states, const larder_state* ids, uint32_t n) noexcept {
    LARDER_API_HANDLE(states, states);
    if (n) LARDER_API_NONNULL(ids);
    return states->free({ids, n});
}

larder_status larder_states_fork(larder_states* states, larder_state state, uint32_t n, larder_state* out) noexcept {
    LARDER_API_HANDLE(states, states);
    if (n) LARDER_API_NONNULL(out);
    return states->fork(state, {out, n}, false);
}

larder_status larder_states_snapshot(larder_states* states, larder_state state, larder_state* out) noexcept {
    LARDER_API_HANDLE(states, states);
    LARDER_API_NONNULL(out);
    return states->fork(state, {out, 1}, true);
}

larder_status larder_states_get(larder_states* states, larder_state state, const void** out_address) noexcept {
    LARDER_API_HANDLE(states, states);
    LARDER_API_NONNULL(out_address);
    return states->get(state, out_address);
}

larder_status larder_states_write(larder_states* states, larder_state state, void** out_address) noexcept {
    LARDER_API_HANDLE(states, states);
    LARDER_API_NONNULL(out_address);
    return states->write(state, out_address);
}

larder_status larder_states_add(larder_states* states, larder_state dst, const larder_state* srcs,
                                uint32_t n) noexcept {
    LARDER_API_HANDLE(states, states);
    if (n) LARDER_API_NONNULL(srcs);
    return states->add(dst, srcs, n);
}

larder_status larder_states_checksum(larder_states* states, larder_state state, uint32_t* out_crc32c) noexcept {
    LARDER_API_HANDLE(states, states);
    LARDER_API_NONNULL(out_crc32c);
    return states->checksum(state, *out_crc32c);
}

larder_status larder_states_query(larder_states* states, larder_states_state* out) noexcept {
    LARDER_API_HANDLE(states, states);
    larder_states_state state;
    states->query(state);
    return write_struct(out, state, "larder_states_state");
}

larder_status larder_states_verify(larder_states* states) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(states, states);
    return states->verify();
    LARDER_API_END
}
