#include "codec/codec.h"

#include <cmath>
#include <cstring>

#include "base/options.h"
#include "codec/encoder.h"

using namespace larder;

namespace {

larder_status check_saliency(const Chain& chain, const float* saliency, uint32_t n_tokens) noexcept {
    if (!chain.salient_percent) return LARDER_OK;
    if (!saliency)
        return fail(LARDER_E_INVALID, "saliency", "the chain gives salient tokens more bits, but saliency is NULL");
    for (uint32_t t = 0; t < n_tokens; ++t)
        if (!std::isfinite(saliency[t]))
            return fail(LARDER_E_INVALID, "saliency", "the saliency of token %u is not finite", t);
    return LARDER_OK;
}

}  // namespace

larder_codec::~larder_codec() {
    if (profile) profile->unref();
}

larder_status larder_codec::create(larder_context& c, const larder_codec_options* options, larder_codec** out) {
    larder_codec_options o;
    LARDER_TRY(read_options(options, o, "larder_codec_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    LARDER_TRY(check_range(o.embed_profile, 0, 1, "embed_profile"));
    Chain chain;
    LARDER_TRY(parse_chain(o.chain, chain, &c.stages));
    if (o.chunk_tokens) {
        LARDER_TRY(check_range(o.chunk_tokens, 1, max_chunk_tokens, "chunk_tokens"));
        chain.chunk_tokens = o.chunk_tokens;
    }
    if (o.profile) {
        LARDER_TRY(check_handle(o.profile, HandleType::profile, "profile"));
        if (!o.profile->finished()) return fail(LARDER_E_STATE, "profile", "the profile's calibration is not finished");
    }
    if (needs_profile(chain) && !o.profile)
        return fail(LARDER_E_MISSING_PROFILE, "profile", "this chain needs a calibrated profile");
    if (needs_profile(chain) && chain.level >= o.profile->n_levels)
        return fail(LARDER_E_RANGE, "chain", "level %u is asked for; the profile has %u", chain.level,
                    o.profile->n_levels);
    if (needs_profile(chain)) {
        const uint32_t basis = o.profile->levels[chain.level].basis_heads;
        if (chain.basis && chain.basis != basis)
            return fail(LARDER_E_INVALID, "chain", "basis=%u is asked for; level %u of the profile has %u", chain.basis,
                        chain.level, basis);
        chain.basis = uint16_t(basis);
        LARDER_TRY(check_chain(chain));
        if (chain.quant == Quant::lowrank && !basis)
            return fail(LARDER_E_UNSUPPORTED, "profile", "level %u of the profile has no basis", chain.level);
    }
    auto* codec = c.make_handle<larder_codec>(c);
    codec->chain = chain;
    codec->isa = IsaLevel(c.param(LARDER_PARAM_ISA_LEVEL));
    if (o.profile && needs_profile(chain)) codec->profile = o.profile->ref();
    codec->embed_profile = o.embed_profile;
    if (chain.stage_id) codec->stage = c.stages.find(chain.stage_id, chain.stage_version);
    *out = codec;
    return LARDER_OK;
}

larder_status larder_codec::sizes(const larder_stream_shape& user, uint64_t& bound,
                                  uint64_t& workspace) const noexcept {
    larder_stream_shape shape;
    LARDER_TRY(read_options(&user, shape, "larder_stream_shape"));
    LARDER_TRY(check_shape(shape, chain.chunk_tokens));
    LARDER_TRY(check_chain_shape(chain, shape));
    if (profile) LARDER_TRY(profile->levels[0].check_shape(shape));
    EncodePlan plan(*this, shape);
    bound = plan.bound();
    workspace = plan.workspace();
    return LARDER_OK;
}

Result<uint64_t> larder_codec::encode(const larder_stream_source& user, const Link& link, MutByteSpan out,
                                      MutByteSpan workspace) const {
    larder_stream_source source;
    LARDER_TRY(read_options(&user, source, "larder_stream_source"));
    larder_stream_shape shape;
    LARDER_TRY(read_options(&source.shape, shape, "larder_stream_shape"));
    LARDER_TRY(check_shape(shape, chain.chunk_tokens));
    LARDER_TRY(check_chain_shape(chain, shape));
    if (profile) LARDER_TRY(profile->levels[0].check_shape(shape));
    source.shape = shape;
    if (!source.identity.rope) source.identity.rope = LARDER_ROPE_POST;
    LARDER_TRY(check_range(uint32_t(source.identity.rope), LARDER_ROPE_POST, LARDER_ROPE_NONE, "identity.rope"));
    LARDER_TRY(check_reserved(source.identity.reserved0, "identity.reserved0"));
    LARDER_TRY(check_saliency(chain, source.saliency, shape.n_tokens));
    if (!source.planes) return fail(LARDER_E_INVALID, "planes", "planes is NULL");
    EncodePlan plan(*this, shape);
    if (out.size() < plan.bound())
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the buffer has %zu bytes; this shape needs %llu",
                    out.size(), (unsigned long long)plan.bound());
    if (!workspace.empty()) {
        if (workspace.size() < plan.workspace())
            return fail(LARDER_E_BUFFER_TOO_SMALL, "workspace_bytes",
                        "the workspace has %zu bytes; this shape needs %llu", workspace.size(),
                        (unsigned long long)plan.workspace());
        return plan.encode(source, link, out.data(), workspace.data());
    }
    auto* memory = static_cast<std::byte*>(context->alloc.alloc(plan.workspace(), scratch_align));
    const Result<uint64_t> n = plan.encode(source, link, out.data(), memory);
    context->alloc.free(memory, plan.workspace(), scratch_align);
    return n;
}
