// The one place where the engine meets Larder: a KvCache over larder_kv, through the public headers
// only.
#pragma once

#include <string>

#include "demo/larder_call.h"
#include "engine/kv_cache.h"
#include "larder/larder.h"

namespace demo {

struct CacheOptions {
    uint64_t n_blocks = 0;    // of the arena, 16 tokens each
    uint64_t host_bytes = 0;  // RAM tier
    uint64_t file_bytes = 0;  // file tier
    std::string directory;    // of the file tier
    std::string codec = "lossless";
};

// Where the cached tokens of the sequence came from.
struct Match {
    uint64_t arena = 0, host = 0, file = 0;
};

class LarderCache final : public engine::KvCache {
  public:
    LarderCache(const engine::Model& model, const CacheOptions& options);

    uint32_t begin(std::span<const int32_t> prompt) override;
    const engine::KvView& reserve(uint32_t n) override;
    void commit(std::span<const int32_t> tokens) override;
    void end() override;

    const Match& match() const { return match_; }
    // Everything published so far reaches the disk.
    void flush();
    larder_stats stats() const;

  private:
    void open_layout(const engine::Model& model);
    void open_kv(const CacheOptions& options);
    void find_layers(uint32_t n_layers);

    Handle<larder_context, larder_context_destroy> context_;
    Handle<larder_layout, larder_layout_destroy> layout_;
    Handle<larder_kv, larder_kv_close> kv_;
    larder_seq seq_ = 0;
    Match match_;
    std::vector<int32_t> table_;
    engine::KvView view_;
};

}  // namespace demo
