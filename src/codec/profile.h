// A profile: per layer and K or V, what was learnt about each channel, and the probability tables of each precision level.
#pragma once

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/bytes.h"
#include "codec/extent.h"
#include "core/context.h"

// Counted: the creator holds one reference, each codec another.
struct larder_profile final : larder::Handle {
    larder_profile(larder_context& c) : Handle(larder::HandleType::profile, c), saved(c.alloc) {}
    const larder_profile* ref() const noexcept { return refs_.fetch_add(1, larder::relaxed), this; }
    void unref() const noexcept;

    bool finished() const noexcept { return !saved.empty(); }
    larder::Vec<std::byte> saved;  // the saved form
    larder_key hash{};

  private:
    mutable larder::atomic<uint32_t> refs_{1};
};
