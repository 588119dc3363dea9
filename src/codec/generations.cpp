#include "codec/generations.h"

namespace larder {

Link Generations::next_link() const noexcept {
    return {frame_.link.generation + 1, frame_.trailer_crc(), offset_ + frame_.total_bytes};
}

Result<bool> Generations::next() noexcept {
    if (begun_ && frame_.bytes.size() < frame_.total_bytes) return false;  // nothing can follow what is not all there
    const uint64_t offset = begun_ ? offset_ + frame_.total_bytes : 0;
    if (begun_ && (offset == stream_.size() || cut_)) return false;
    const larder_status st = read(stream_.subspan(offset));
    if (st < 0 && begun_ && reach_ == Reach::remains) {
        cut_ = true;
        return false;
    }
    if (st < 0) return st;
    begun_ = true;
    return true;
}

larder_status Generations::read(ByteSpan rest) noexcept {
    Frame f;
    LARDER_TRY(read_frame(rest, reach_, f));
    if (begun_)
        LARDER_TRY(check_successor(f));
    else if (f.link.generation)
        return fail(LARDER_E_CORRUPT, "generation", "the bytes begin with generation %u of a stream",
                    f.link.generation);
    uint32_t n_levels = 0;
    LARDER_TRY(count_levels(f, n_levels));
    if (begun_) {
        offset_ += frame_.total_bytes;
        first_token_ += frame_.shape.n_tokens;
    }
    frame_ = f;
    n_levels_ = n_levels;
    if (reach_ == Reach::remains) cut_ = n_levels < f.at.n_levels || !has_trailer(f);
    return LARDER_OK;
}

larder_status Generations::check_successor(const Frame& f) const noexcept {
    const Link want = next_link();
    const larder_stream_shape &a = frame_.shape, &b = f.shape;
    if (f.link.generation != want.generation || f.link.previous_crc != want.previous_crc ||
        f.link.offset != want.offset)
        return fail(LARDER_E_CORRUPT, "generation", "what follows generation %u was not appended to it",
                    frame_.link.generation);
    const bool same = a.n_layers == b.n_layers && a.n_kv_heads == b.n_kv_heads && a.k_dim == b.k_dim &&
                      a.v_dim == b.v_dim && a.k_dtype == b.k_dtype && a.v_dtype == b.v_dtype &&
                      frame_.identity.rope == f.identity.rope &&
                      !std::memcmp(frame_.identity.layout.bytes, f.identity.layout.bytes, 32);
    const uint64_t tokens = uint64_t(first_token_) + a.n_tokens + b.n_tokens;
    if (!same || f.identity.first_token != frame_.identity.first_token + a.n_tokens || tokens > max_tokens)
        return fail(LARDER_E_CORRUPT, "generation", "generation %u does not continue the one before it",
                    f.link.generation);
    return LARDER_OK;
}

larder_status Generations::count_levels(const Frame& f, uint32_t& n_levels) const noexcept {
    n_levels = f.at.n_levels;
    if (reach_ != Reach::remains) return LARDER_OK;
    uint64_t offset = f.at.payload_offset;
    for (uint64_t i = 0; i < f.at.n_entries(); ++i) {
        ByteSpan bytes;
        const larder_status st = read_extent(f, i, offset, bytes);
        if (st < 0 && i < f.at.n_extents) return st;
        if (st < 0) {
            n_levels = uint32_t(i / f.at.n_extents);
            return LARDER_OK;
        }
        offset += Frame::padded(bytes.size());
    }
    return LARDER_OK;
}

}  // namespace larder
