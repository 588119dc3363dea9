#include "moe/routing.h"

#include "base/bytes.h"
#include "base/options.h"

namespace larder {
namespace {

constexpr uint64_t max_tokens = uint64_t(1) << 26;
constexpr uint32_t max_experts = 65536;

uint64_t type_bytes(larder_moe_type t) noexcept {
    return t == LARDER_MOE_U8 ? 1 : t == LARDER_MOE_I16 ? 2 : t == LARDER_MOE_I32 ? 4 : 0;
}

}  // namespace

larder_status RoutingReader::open(const larder_moe_routing* user, bool any_experts) {
    if (!user) return fail(LARDER_E_INVALID, "routing", "routing is NULL");
    LARDER_TRY(read_options(user, r_, "larder_moe_routing"));
    if (!r_.order) r_.order = LARDER_MOE_TOKENS_FIRST;
    if (!type_bytes(r_.type)) return fail(LARDER_E_INVALID, "type", "%d is no type of expert numbers", r_.type);
    if (r_.order != LARDER_MOE_TOKENS_FIRST && r_.order != LARDER_MOE_LAYERS_FIRST)
        return fail(LARDER_E_INVALID, "order", "%d is no order of axes", r_.order);
    if (any_experts && !r_.n_experts) r_.n_experts = max_experts;
    LARDER_TRY(check_range(r_.n_layers, 1, 4096, "n_layers"));
    LARDER_TRY(check_range(r_.n_experts, 1, max_experts, "n_experts"));
    LARDER_TRY(check_range(r_.k, 1, std::min<uint32_t>(256, r_.n_experts), "k"));
    LARDER_TRY(check_range(r_.n_tokens, 1, max_tokens, "n_tokens"));
    const uint64_t n_bytes = r_.n_tokens * r_.n_layers * r_.k * type_bytes(r_.type);
    if (r_.n_bytes != n_bytes)
        return fail(LARDER_E_INVALID, "n_bytes", "n_bytes is %llu; the counts ask for %llu",
                    (unsigned long long)r_.n_bytes, (unsigned long long)n_bytes);
    if (!r_.ids) return fail(LARDER_E_INVALID, "ids", "ids is NULL");
    if (!r_.sequence_tokens || r_.sequence_tokens > r_.n_tokens) r_.sequence_tokens = r_.n_tokens;
    ids_.resize(r_.n_tokens * r_.k);
    seen_.assign(r_.n_experts, 0);
    return LARDER_OK;
}

template <class T> larder_status RoutingReader::read_as(uint32_t layer) {
    const auto* data = static_cast<const std::byte*>(r_.ids);
    const bool layers_first = r_.order == LARDER_MOE_LAYERS_FIRST;
    for (uint64_t t = 0; t < r_.n_tokens; ++t) {
        const uint64_t row = layers_first ? layer * r_.n_tokens + t : t * r_.n_layers + layer;
        for (uint32_t j = 0; j < r_.k; ++j) {
            const auto id = int64_t(load_le<T>(data + (row * r_.k + j) * sizeof(T)));
            if (id < 0 || id >= int64_t(r_.n_experts))
                return fail(LARDER_E_RANGE, "ids", "token %llu, layer %u, place %u: expert %lld of %u",
                            (unsigned long long)t, layer, j, (long long)id, r_.n_experts);
            if (seen_[size_t(id)] == row + 1)
                return fail(LARDER_E_INVALID, "ids", "token %llu, layer %u: expert %lld stands there twice",
                            (unsigned long long)t, layer, (long long)id);
            seen_[size_t(id)] = row + 1;
            n_seen_ = std::max(n_seen_, uint32_t(id) + 1);
            ids_[t * r_.k + j] = uint16_t(id);
        }
    }
    return LARDER_OK;
}

larder_status RoutingReader::read(uint32_t layer) {
    LARDER_TRY(check_range(layer, 0, r_.n_layers - 1, "layer"));
    switch (r_.type) {
    case LARDER_MOE_U8:
        return read_as<uint8_t>(layer);
    case LARDER_MOE_I16:
        return read_as<int16_t>(layer);
    default:
        return read_as<int32_t>(layer);
    }
}

}  // namespace larder
