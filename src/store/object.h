// One object of the store, and the table of all of them.
#pragma once

#include "base/alloc.h"
#include "base/hash.h"
#include "larder/store.h"

namespace larder {

inline constexpr uint32_t no_slot = UINT32_MAX;
inline constexpr uint32_t no_segment = UINT32_MAX;
// The unit in which a payload can be read and verified by itself.
inline constexpr uint32_t extent_bytes = 65536;

inline constexpr uint32_t extent_count(uint64_t n_bytes) noexcept {
    return uint32_t((n_bytes + extent_bytes - 1) / extent_bytes);
}

// The facts that stand in a record's header.
struct ObjectMeta {
    larder_key layout{}, parent{};
    uint32_t tenant = 0;
    uint32_t n_tokens = 0;
    uint32_t user_flags = 0;
    uint16_t codec = 0;
    uint8_t quality = 1;

    bool same_identity(const ObjectMeta& o) const noexcept { return tenant == o.tenant && layout == o.layout; }
};

// Where a record stands in the file tier. A sequence number is never used twice, so a place is never ambiguous.
struct RecordPlace {
    uint32_t segment = no_segment;
    uint32_t offset = 0;  // of the header, in the segment
    bool valid() const noexcept { return segment != no_segment; }
};

// CRC32C of each extent of a payload: one in place, more from the allocator. Move-only.
class ExtentSums {
  public:
    ExtentSums() noexcept = default;
    ExtentSums(const Allocator& a, uint32_t n) : a_(&a), n_(n) {
        if (n > 1) many_ = static_cast<uint32_t*>(a.alloc(size_t(n) * 4, 4));
    }
    ExtentSums(ExtentSums&& o) noexcept { swap(o); }
    ExtentSums& operator=(ExtentSums&& o) noexcept {
        ExtentSums t(std::move(o));
        swap(t);
        return *this;
    }
    ~ExtentSums() {
        if (n_ > 1) a_->free(many_, size_t(n_) * 4, 4);
    }
    ExtentSums copy() const {
        if (!n_) return {};
        ExtentSums c(*a_, n_);
        for (uint32_t i = 0; i < n_; ++i) c.data()[i] = data()[i];
        return c;
    }
    uint32_t size() const noexcept { return n_; }
    uint32_t* data() noexcept { return n_ > 1 ? many_ : &one_; }
    const uint32_t* data() const noexcept { return n_ > 1 ? many_ : &one_; }
    uint32_t operator[](uint32_t i) const noexcept { return data()[i]; }

  private:
    void swap(ExtentSums& o) noexcept {
        std::swap(a_, o.a_);
        std::swap(n_, o.n_);
        std::swap(many_, o.many_);
        std::swap(one_, o.one_);
    }
    const Allocator* a_ = nullptr;  // the context's
    uint32_t n_ = 0;
    uint32_t one_ = 0;
    uint32_t* many_ = nullptr;
};

}  // namespace larder
