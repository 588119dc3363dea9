// A profile: per layer and K or V, what was learnt about each channel, and the probability tables of each precision level.
#pragma once

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/bytes.h"
#include "core/context.h"
#include "larder/stream.h"

// Counted: the creator holds one reference, each codec another.
struct larder_profile final : larder::Handle {
    larder_profile(larder_context& c) : Handle(larder::HandleType::profile, c) {}
    void ref() const noexcept { refs_.fetch_add(1, larder::relaxed); }
    void unref() const noexcept;

  private:
    mutable larder::atomic<uint32_t> refs_{1};
};
