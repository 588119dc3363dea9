// What the engine asks of a cache, with Larder behind it (demo/larder_cache.h) or without
// (PrivateCache).
#pragma once

#include <cstdint>
#include <span>

#include "engine/private_kv.h"

namespace engine {

class KvCache {
  public:
    virtual ~KvCache() = default;

    // Begin a sequence whose first tokens will be these. Returns how many of them are in the cache
    // already, never all.
    virtual uint32_t begin(std::span<const int32_t> prompt) = 0;
    // Room for n more tokens; the view holds until the next call.
    virtual const KvView& reserve(uint32_t n) = 0;
    // The keys and values of the next tokens were written.
    virtual void commit(std::span<const int32_t> tokens) = 0;
    virtual void end() = 0;
};

// Forgets everything at the end of each sequence.
class PrivateCache final : public KvCache {
  public:
    explicit PrivateCache(const Shape& shape) : kv_(shape) {}

    uint32_t begin(std::span<const int32_t>) override { return 0; }
    const KvView& reserve(uint32_t) override { return kv_.view(); }
    void commit(std::span<const int32_t>) override {}
    void end() override {}

  private:
    PrivateKv kv_;
};

}  // namespace engine
