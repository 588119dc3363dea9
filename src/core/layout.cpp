#include "core/layout.h"

#include <bit>
#include <cmath>

#include "base/options.h"

namespace larder {

uint32_t dtype_bytes(larder_dtype t) noexcept {
    switch (t) {
    case LARDER_DTYPE_F16:
    case LARDER_DTYPE_BF16:
        return 2;
    case LARDER_DTYPE_F32:
        return 4;
    case LARDER_DTYPE_F8_E4M3:
    case LARDER_DTYPE_F8_E5M2:
    case LARDER_DTYPE_I8:
    case LARDER_DTYPE_U8:
        return 1;
    default:
        return 0;
    }
}

namespace {

constexpr uint32_t max_layer = 65535;
constexpr uint64_t max_digest_bytes = 65536;

larder_status fill_defaults(larder_layer_group& g) noexcept {
    if (!g.kind) g.kind = LARDER_GROUP_FULL;
    LARDER_TRY(check_range(uint32_t(g.kind), LARDER_GROUP_FULL, LARDER_GROUP_INDEX, "groups.kind"));
    if (!g.block_tokens) g.block_tokens = 16;
    if (!g.k_dtype) g.k_dtype = LARDER_DTYPE_F16;
    if (!g.v_dtype) g.v_dtype = g.k_dtype;
    const bool trailing = g.kind == LARDER_GROUP_WINDOW || g.kind == LARDER_GROUP_RECURRENT;
    if (!g.hit_rule) g.hit_rule = trailing ? LARDER_HIT_TRAILING : LARDER_HIT_ALL;
    if (!g.shard) g.shard = g.kind == LARDER_GROUP_LATENT ? LARDER_SHARD_REPLICATED : LARDER_SHARD_SPLIT;
    if (!g.role) g.role = LARDER_ROLE_TARGET;
    return LARDER_OK;
}

larder_status check_group(const larder_layer_group& g) noexcept {
    const bool recurrent = g.kind == LARDER_GROUP_RECURRENT;
    LARDER_TRY(check_range(g.n_layers, 1, 4096, "groups.n_layers"));
    LARDER_TRY(check_range(g.block_tokens, 1, 4096, "groups.block_tokens"));
    if (!std::has_single_bit(g.block_tokens))
        return fail(LARDER_E_INVALID, "groups.block_tokens", "block_tokens %u is not a power of two", g.block_tokens);
    if (!dtype_bytes(g.k_dtype)) return fail(LARDER_E_INVALID, "groups.k_dtype", "there is no dtype %d", g.k_dtype);
    if (!dtype_bytes(g.v_dtype)) return fail(LARDER_E_INVALID, "groups.v_dtype", "there is no dtype %d", g.v_dtype);
    LARDER_TRY(check_range(g.n_kv_heads, recurrent ? 0 : 1, 4096, "groups.n_kv_heads"));
    LARDER_TRY(check_range(g.k_dim, recurrent ? 0 : 1, 65536, "groups.k_dim"));
    LARDER_TRY(check_range(g.v_dim, 0, 65536, "groups.v_dim"));
    if (g.v_dim && g.kind != LARDER_GROUP_FULL && g.kind != LARDER_GROUP_WINDOW)
        return fail(LARDER_E_INVALID, "groups.v_dim", "v_dim must be 0 for a latent, recurrent or index group");
    LARDER_TRY(check_range(g.scale_bytes, 0, 65536, "groups.scale_bytes"));
    if (g.kind != LARDER_GROUP_WINDOW && (g.window || g.n_sinks))
        return fail(LARDER_E_INVALID, "groups.window", "only a WINDOW group has a window and sinks");
    if (!recurrent && (g.state_bytes || g.checkpoint_tokens))
        return fail(LARDER_E_INVALID, "groups.state_bytes", "only a RECURRENT group has states");
    if (g.kind == LARDER_GROUP_WINDOW) LARDER_TRY(check_range(g.window, 1, UINT32_MAX, "groups.window"));
    if (recurrent) {
        LARDER_TRY(check_range(g.state_bytes, 1, uint64_t(1) << 32, "groups.state_bytes"));
        LARDER_TRY(check_range(g.checkpoint_tokens, 1, UINT32_MAX, "groups.checkpoint_tokens"));
    }
    LARDER_TRY(check_range(uint32_t(g.hit_rule), LARDER_HIT_ALL, LARDER_HIT_TRAILING, "groups.hit_rule"));
    LARDER_TRY(check_range(uint32_t(g.shard), LARDER_SHARD_SPLIT, LARDER_SHARD_REPLICATED, "groups.shard"));
    if (g.kind == LARDER_GROUP_LATENT && g.shard != LARDER_SHARD_REPLICATED)
        return fail(LARDER_E_INVALID, "groups.shard", "a latent group is replicated over tensor-parallel ranks");
    return check_range(uint32_t(g.role), LARDER_ROLE_TARGET, LARDER_ROLE_DRAFT, "groups.role");
}

}  // namespace
}  // namespace larder

using namespace larder;

larder_status larder_layout::add_group(const larder_layer_group* user, uint32_t stride, uint32_t index) {
    LayerGroup g{{}, Vec<uint32_t>(context->alloc)};
    if (user->struct_size > stride)
        return fail(LARDER_E_INVALID, "group_stride", "group_stride %u is less than the size of a group, %u", stride,
                    user->struct_size);
    LARDER_TRY(read_options(user, g.info, "larder_layer_group"));
    LARDER_TRY(fill_defaults(g.info));
    LARDER_TRY(check_group(g.info));
    for (uint32_t i = 0; i < g.info.n_layers; ++i) {
        g.layers.push_back(g.info.layers ? g.info.layers[i] : i);
        if (i && g.layers[i] <= g.layers[i - 1])
            return fail(LARDER_E_INVALID, "groups.layers", "the layers of group %u are not ascending", index);
        LARDER_TRY(check_range(g.layers[i], 0, max_layer, "groups.layers"));
    }
    groups.push_back(std::move(g));
    groups.back().info.layers = groups.back().layers.data();
    return LARDER_OK;
}

larder_status larder_layout::create(larder_context& c, const larder_layout_options* user, larder_layout** out) {
    larder_layout_options o;
    LARDER_TRY(read_options(user, o, "larder_layout_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    LARDER_TRY(check_range(o.n_groups, 1, 64, "n_groups"));
    if (!o.groups) return fail(LARDER_E_INVALID, "groups", "groups is NULL");
    LARDER_TRY(check_range(o.group_stride, 8, 65536, "group_stride"));
    if (!o.rope) o.rope = LARDER_ROPE_POST;
    LARDER_TRY(check_range(uint32_t(o.rope), LARDER_ROPE_POST, LARDER_ROPE_NONE, "rope"));
    if (o.rope_base == 0) o.rope_base = 10000;
    if (!std::isfinite(o.rope_base) || o.rope_base < 0)
        return fail(LARDER_E_RANGE, "rope_base", "rope_base must be positive and finite");
    if ((o.model_digest.n_bytes && !o.model_digest.data) || (o.tokenizer_digest.n_bytes && !o.tokenizer_digest.data))
        return fail(LARDER_E_INVALID, "model_digest", "a digest has a length but no data");
    LARDER_TRY(check_range(o.model_digest.n_bytes, 0, max_digest_bytes, "model_digest"));
    LARDER_TRY(check_range(o.tokenizer_digest.n_bytes, 0, max_digest_bytes, "tokenizer_digest"));
    larder_layout* l = c.make_handle<larder_layout>(c);
    larder_status s = LARDER_OK;
    try {
        l->groups.reserve(o.n_groups);
        for (uint32_t i = 0; i < o.n_groups && s >= 0; ++i)
            s = l->add_group(reinterpret_cast<const larder_layer_group*>(reinterpret_cast<const char*>(o.groups) +
                                                                         size_t(i) * o.group_stride),
                             o.group_stride, i);
    } catch (...) {
        l->unref();
        throw;
    }
    if (s < 0) {
        l->unref();
        return s;
    }
    l->rope = o.rope;
    l->rope_base = o.rope_base;
    l->vocab_size = o.vocab_size;
    l->make_identity(o);
    *out = l;
    return LARDER_OK;
}

// The order of the fields is frozen: docs/formats/keys.md.
void larder_layout::make_identity(const larder_layout_options& o) noexcept {
    static constexpr char domain[] = "larder layout 1";
    Blake2b h;
    h.add(domain, sizeof domain);
    h.add_le(o.model_digest.n_bytes).add(o.model_digest.data, o.model_digest.n_bytes);
    h.add_le(o.tokenizer_digest.n_bytes).add(o.tokenizer_digest.data, o.tokenizer_digest.n_bytes);
    h.add_le(vocab_size).add_le(rope).add_le(rope_base).add_le(uint32_t(groups.size()));
    for (const LayerGroup& g : groups) {
        const larder_layer_group& i = g.info;
        h.add_le(i.kind).add_le(i.n_layers).add(g.layers.data(), 4 * g.layers.size());
        h.add_le(i.block_tokens)
            .add_le(i.n_kv_heads)
            .add_le(i.k_dim)
            .add_le(i.v_dim)
            .add_le(i.k_dtype)
            .add_le(i.v_dtype);
        h.add_le(i.scale_bytes).add_le(i.window).add_le(i.n_sinks).add_le(i.state_bytes).add_le(i.checkpoint_tokens);
        h.add_le(i.hit_rule).add_le(i.shard).add_le(i.role);
    }
    identity = h.finish();
}

void larder_layout::unref() noexcept {
    if (refs_.fetch_sub(1, acq_rel) == 1) context->drop_handle(this);
}

larder_status larder_layout::group_info(uint32_t group, uint32_t n_tp, larder_group_info& out) const noexcept {
    if (group >= groups.size())
        return fail(LARDER_E_RANGE, "group", "group is %u; the layout has %zu", group, groups.size());
    const larder_layer_group& g = groups[group].info;
    const bool split = g.shard == LARDER_SHARD_SPLIT && g.kind != LARDER_GROUP_RECURRENT;
    if (!n_tp || (split && g.n_kv_heads % n_tp))
        return fail(LARDER_E_RANGE, "n_tp", "n_tp %u does not divide the %u kv heads of group %u", n_tp, g.n_kv_heads,
                    group);
    out = LARDER_GROUP_INFO_INIT;
    out.kind = g.kind;
    out.n_layers = g.n_layers;
    out.block_tokens = g.block_tokens;
    out.n_kv_heads = split ? g.n_kv_heads / n_tp : g.n_kv_heads;
    out.k_token_bytes = uint64_t(out.n_kv_heads) * g.k_dim * dtype_bytes(g.k_dtype);
    out.v_token_bytes = uint64_t(out.n_kv_heads) * g.v_dim * dtype_bytes(g.v_dtype);
    out.layer_block_bytes = g.kind == LARDER_GROUP_RECURRENT
                                ? g.state_bytes
                                : g.block_tokens * (out.k_token_bytes + out.v_token_bytes + g.scale_bytes);
    out.block_bytes = out.layer_block_bytes * g.n_layers;
    return LARDER_OK;
}
