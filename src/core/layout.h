// A model's layer groups: validated, copied, with derived sizes and the identity digest.
#pragma once

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/hash.h"
#include "core/context.h"
#include "larder/layout.h"

namespace larder {

uint32_t dtype_bytes(larder_dtype t) noexcept;  // 0 for an unknown one

struct LayerGroup {
    larder_layer_group info;  // defaults filled in; info.layers points into `layers`
    Vec<uint32_t> layers;
};

}  // namespace larder

// Counted: the creator holds one reference, everything made with the layout another.
struct larder_layout final : larder::Handle {
    larder_layout(larder_context& c) : Handle(larder::HandleType::layout, c), groups(c.alloc) {}
    static larder_status create(larder_context& c, const larder_layout_options* options, larder_layout** out);

    larder_layout* ref() noexcept { return refs_.fetch_add(1, larder::relaxed), this; }
    void unref() noexcept;
    larder_status group_info(uint32_t group, uint32_t n_tp, larder_group_info& out) const noexcept;
    bool valid_token(int32_t t) const noexcept { return t >= 0 && (vocab_size == 0 || uint32_t(t) < vocab_size); }

    larder::Vec<larder::LayerGroup> groups;
    larder_key identity{};
    larder_rope rope = LARDER_ROPE_POST;
    double rope_base = 10000;
    uint32_t vocab_size = 0;

  private:
    larder_status add_group(const larder_layer_group* user, uint32_t stride, uint32_t index);
    void make_identity(const larder_layout_options& o) noexcept;
    larder::atomic<uint32_t> refs_{1};
};
