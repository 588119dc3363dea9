// Where the weights of one precision come from when they are not in a slot.
#pragma once

#include "core/context.h"
#include "larder/expert.h"
#include "store/store.h"

namespace larder {

class ExpertSource {
  public:
    explicit ExpertSource(larder_context& c) : os_(c.os), keys_(c.alloc), sums_(c.alloc) {}
    ~ExpertSource() {
        if (file_.valid()) os_.close(file_);
    }
    ExpertSource(const ExpertSource&) = delete;
    larder_status open(const larder_expert_precision& p, uint32_t n_layers, uint32_t n_experts);
    // The caller's callback is given back when the cache goes, not when making one failed.
    void close() noexcept;

    uint64_t n_bytes() const noexcept { return p_.n_bytes; }
    // Weights in the caller's memory can be copied from where they are; otherwise NULL.
    const std::byte* memory(uint32_t layer, uint32_t expert) const noexcept;
    // Part of an expert's weights into host memory.
    larder_status read(uint32_t layer, uint32_t expert, uint64_t offset, void* dst, uint64_t n_bytes);
    bool has_sums() const noexcept { return !sums_.empty(); }
    uint32_t sum(uint32_t layer, uint32_t expert) const noexcept { return sums_[size_t(layer) * n_experts_ + expert]; }

  private:
    larder_status open_file(uint32_t n_layers);
    uint64_t place(uint32_t layer, uint32_t expert) const noexcept {
        return layer * p_.layer_stride_bytes + expert * p_.expert_stride_bytes;
    }

    Os& os_;
    larder_expert_precision p_ = LARDER_EXPERT_PRECISION_INIT;
    uint32_t n_experts_ = 0;
    OsHandle file_;
    larder_object_want want_ = LARDER_OBJECT_WANT_INIT;
    Vec<larder_key> keys_;
    Vec<uint32_t> sums_;
};

}  // namespace larder
