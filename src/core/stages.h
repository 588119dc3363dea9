// Codec stages that programs register with a context. Entries stay until the context goes, so one that was found may be
// used without the lock.
#pragma once

#include <mutex>

#include "base/result.h"
#include "larder/codec.h"

namespace larder {

class StageRegistry {
  public:
    StageRegistry() = default;
    ~StageRegistry();
    StageRegistry(const StageRegistry&) = delete;
    larder_status add(const larder_codec_stage* user) noexcept;
    // NULL: not registered.
    const larder_codec_stage* find(uint32_t id, uint32_t version) noexcept;
    const larder_codec_stage* find(const char* name, size_t n) noexcept;

  private:
    static constexpr uint32_t max_stages = 16;
    static constexpr size_t max_name = 32;
    std::mutex mutex_;
    uint32_t n_ = 0;
    larder_codec_stage stages_[max_stages];
    char names_[max_stages][max_name];
};

}  // namespace larder
