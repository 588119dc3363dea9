#include "larder/moe.h"

#include "api/guard.h"
#include "core/context.h"
#include "moe/advice.h"
#include "moe/measure.h"
#include "moe/regroup.h"
#include "moe/split.h"

using namespace larder;

larder_status larder_moe_check(larder_context* context, const larder_moe_routing* routing,
                               uint32_t* out_n_experts) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    RoutingReader reader(context->alloc);
    LARDER_TRY(reader.open(routing, true));
    for (uint32_t layer = 0; layer < reader.shape().n_layers; ++layer) LARDER_TRY(reader.read(layer));
    if (out_n_experts) *out_n_experts = reader.n_experts_seen();
    return LARDER_OK;
    LARDER_API_END
}

larder_status larder_moe_measure_segments(larder_context* context, const larder_moe_routing* routing,
                                          uint32_t first_layer, uint32_t n_layers, uint32_t segment_tokens,
                                          larder_moe_segments* out) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_TRY(check_output(out, "larder_moe_segments"));
    RoutingReader reader(context->alloc);
    LARDER_TRY(reader.open(routing, false));
    larder_moe_segments segments = LARDER_MOE_SEGMENTS_INIT;
    LARDER_TRY(measure_segments(reader, context->alloc, first_layer, n_layers, segment_tokens, segments));
    return write_struct(out, segments, "larder_moe_segments");
    LARDER_API_END
}

larder_status larder_moe_measure_cache(larder_context* context, const larder_moe_routing* routing, uint32_t layer,
                                       larder_moe_keep keep, uint64_t lookahead, uint64_t* out_hits) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_hits);
    RoutingReader reader(context->alloc);
    LARDER_TRY(reader.open(routing, false));
    return measure_cache(reader, context->alloc, layer, keep, lookahead, out_hits);
    LARDER_API_END
}

larder_status larder_moe_knee(const uint64_t* hits, uint32_t n_experts, uint32_t k, uint32_t* out_slots) noexcept {
    LARDER_API_NONNULL(hits);
    LARDER_API_NONNULL(out_slots);
    LARDER_TRY(check_range(n_experts, 1, 65536, "n_experts"));
    LARDER_TRY(check_range(k, 1, n_experts, "k"));
    *out_slots = knee(hits, n_experts, k);
    return LARDER_OK;
}

larder_status larder_moe_advise(larder_context* context, const larder_moe_advice_options* options, const uint64_t* hits,
                                uint32_t* out_slots, larder_moe_advice* out) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(options);
    LARDER_API_NONNULL(hits);
    LARDER_API_NONNULL(out_slots);
    LARDER_TRY(check_output(out, "larder_moe_advice"));
    larder_moe_advice_options o;
    LARDER_TRY(read_options(options, o, "larder_moe_advice_options"));
    larder_moe_advice advice = LARDER_MOE_ADVICE_INIT;
    LARDER_TRY(advise(o, context->alloc, hits, out_slots, advice));
    return write_struct(out, advice, "larder_moe_advice");
    LARDER_API_END
}

larder_status larder_moe_split_work(const uint64_t* in_place_ns, const uint64_t* device_ns, uint32_t n,
                                    uint8_t* out_in_place, larder_moe_split* out) noexcept {
    if (n) LARDER_API_NONNULL(in_place_ns);
    if (n) LARDER_API_NONNULL(device_ns);
    if (n) LARDER_API_NONNULL(out_in_place);
    LARDER_TRY(check_output(out, "larder_moe_split"));
    larder_moe_split split = LARDER_MOE_SPLIT_INIT;
    LARDER_TRY(split_work({in_place_ns, n}, {device_ns, n}, out_in_place, split));
    return write_struct(out, split, "larder_moe_split");
}

larder_status larder_moe_masks(larder_context* context, const larder_moe_routing* routing, uint64_t item_tokens,
                               uint32_t n_words, uint64_t* out_masks) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_masks);
    RoutingReader reader(context->alloc);
    LARDER_TRY(reader.open(routing, false));
    return regroup_masks(reader, item_tokens, n_words, out_masks);
    LARDER_API_END
}

larder_status larder_moe_regroup(larder_context* context, const uint64_t* masks, uint32_t n_words, uint32_t n_items,
                                 uint32_t batch, uint32_t* out_order, larder_moe_regrouping* out) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(masks);
    LARDER_API_NONNULL(out_order);
    LARDER_TRY(check_output(out, "larder_moe_regrouping"));
    LARDER_TRY(check_range(n_words, 1, 1u << 22, "n_words"));
    LARDER_TRY(check_range(n_items, 1, 1u << 20, "n_items"));
    LARDER_TRY(check_range(batch, 1, UINT32_MAX, "batch"));
    larder_moe_regrouping result = LARDER_MOE_REGROUPING_INIT;
    regroup(context->alloc, masks, n_words, n_items, batch, out_order, result);
    return write_struct(out, result, "larder_moe_regrouping");
    LARDER_API_END
}
