// Little-endian fields of files, streams and plans, and a bounds-checked reader for bytes that may be hostile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace larder {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "big-endian hosts need byte swaps here");

using ByteSpan = std::span<const std::byte>;
using MutByteSpan = std::span<std::byte>;

template <class T> T load_le(const void* p) noexcept {
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class T> void store_le(void* p, T v) noexcept {
    std::memcpy(p, &v, sizeof v);
}

// Reads fields in order; after the first read past the end every further one yields zero and ok() is false.
class ByteReader {
  public:
    explicit ByteReader(ByteSpan bytes) noexcept : bytes_(bytes) {}
    template <class T> T get() noexcept {
        if (remaining() < sizeof(T)) return fail_(), T{};
        T v = load_le<T>(bytes_.data() + at_);
        at_ += sizeof(T);
        return v;
    }
    ByteSpan take(size_t n) noexcept {
        if (remaining() < n) return fail_(), ByteSpan{};
        auto s = bytes_.subspan(at_, n);
        at_ += n;
        return s;
    }
    size_t remaining() const noexcept { return bytes_.size() - at_; }
    size_t position() const noexcept { return at_; }
    bool ok() const noexcept { return ok_; }

  private:
    void fail_() noexcept { ok_ = false, at_ = bytes_.size(); }
    ByteSpan bytes_;
    size_t at_ = 0;
    bool ok_ = true;
};

}  // namespace larder
