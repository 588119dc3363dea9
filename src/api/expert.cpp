#include "larder/expert.h"

#include "api/guard.h"
#include "expert/cache.h"
#include "expert/replay.h"

using namespace larder;

larder_status larder_expert_policy_get(uint32_t index, larder_expert_policy_info* out) noexcept {
    const auto rows = expert_policies();
    if (index >= rows.size()) return fail(LARDER_E_NOT_FOUND, "index", "there are %zu expert policies", rows.size());
    const ExpertPolicyRow& row = rows[index];
    return write_struct(out, larder_expert_policy_info{0, row.policy, row.name, row.description, row.online, 0},
                        "larder_expert_policy_info");
}

larder_status larder_expert_create(larder_context* context, const larder_expert_options* options,
                                   larder_expert_cache** out_cache) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_cache);
    *out_cache = nullptr;
    return larder_expert_cache::create(*context, options, out_cache);
    LARDER_API_END
}

void larder_expert_destroy(larder_expert_cache* cache) noexcept {
    if (cache && check_handle(cache, HandleType::expert, "cache") >= 0) cache->context->drop_handle(cache);
}

larder_status larder_expert_acquire(larder_expert_cache* cache, uint32_t layer, const uint32_t* experts, uint32_t n,
                                    larder_expert_view* out, uint32_t stride, larder_queue* queue, uint64_t user_data,
                                    larder_job* out_job, larder_expert_lease* out_lease) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(cache, expert);
    LARDER_API_NONNULL(experts);
    LARDER_API_NONNULL(out);
    LARDER_API_NONNULL(out_lease);
    *out_lease = 0;
    if (!n) return fail(LARDER_E_INVALID, "n", "n is 0");
    if (stride < sizeof *out || stride % 8)
        return fail(LARDER_E_INVALID, "stride", "stride is %u; it must be sizeof(larder_expert_view)", stride);
    if (queue) {
        LARDER_API_HANDLE_OF(cache->context, queue, queue);
        LARDER_API_NONNULL(out_job);
        *out_job = 0;
    }
    return cache->acquire(layer, {experts, n}, out, stride, queue, user_data, out_job, out_lease);
    LARDER_API_END
}

larder_status larder_expert_release(larder_expert_cache* cache, larder_expert_lease lease) noexcept {
    LARDER_API_HANDLE(cache, expert);
    return cache->release(lease);
}

larder_status larder_expert_begin_sequence(larder_expert_cache* cache) noexcept {
    LARDER_API_HANDLE(cache, expert);
    cache->begin_sequence();
    return LARDER_OK;
}

larder_status larder_expert_hint(larder_expert_cache* cache, uint32_t layer, const uint32_t* experts,
                                 const float* probabilities, uint32_t n, uint32_t source,
                                 uint64_t deadline_ns) noexcept {
    LARDER_API_HANDLE(cache, expert);
    if (n) LARDER_API_NONNULL(experts);
    return cache->hint(layer, {experts, n}, probabilities, source, deadline_ns);
}

larder_status larder_expert_query(larder_expert_cache* cache, larder_expert_state* out) noexcept {
    LARDER_API_HANDLE(cache, expert);
    larder_expert_state state;
    cache->query(state);
    return write_struct(out, state, "larder_expert_state");
}

larder_status larder_expert_verify(larder_expert_cache* cache) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(cache, expert);
    return cache->verify();
    LARDER_API_END
}

larder_status larder_expert_replay(larder_context* context, const larder_moe_routing* routing,
                                   const larder_expert_replay_options* options, uint64_t* hits,
                                   larder_expert_replay_result* out_result) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_TRY(check_output(out_result, "larder_expert_replay_result"));
    larder_expert_replay_result r;
    LARDER_TRY(replay_experts(*context, routing, options, hits, r));
    return write_struct(out_result, r, "larder_expert_replay_result");
    LARDER_API_END
}
