// Keyed BLAKE2b-256 (libsodium): content keys and identities. And a fast non-cryptographic mix for hash tables.
#pragma once

#include <cstdint>
#include <cstring>

#include "larder/base.h"

namespace larder {

// Incremental keyed hash; key may be empty. Output is a larder_key.
class Blake2b {
  public:
    explicit Blake2b(const void* key = nullptr, size_t key_bytes = 0) noexcept;  // key_bytes: 0 or 16..64
    Blake2b& add(const void* data, size_t n) noexcept;
    template <class T> Blake2b& add_le(T v) noexcept { return add(&v, sizeof v); }
    larder_key finish() noexcept;

  private:
    alignas(64) unsigned char state_[384];
};

inline bool operator==(const larder_key& a, const larder_key& b) noexcept {
    return std::memcmp(a.bytes, b.bytes, 32) == 0;
}

// Content keys are uniform already: their first eight bytes serve as a hash.
struct KeyHash {
    size_t operator()(const larder_key& k) const noexcept {
        uint64_t v;
        std::memcpy(&v, k.bytes, 8);
        return v;
    }
};
struct KeyEqual {
    bool operator()(const larder_key& a, const larder_key& b) const noexcept { return a == b; }
};

constexpr uint64_t mix64(uint64_t x) noexcept {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

// A small seeded generator for sampling and tests (splitmix64). Not for secrets.
class Rng {
  public:
    explicit Rng(uint64_t seed) noexcept : s_(seed) {}
    uint64_t next() noexcept {
        uint64_t z = (s_ += 0x9e3779b97f4a7c15u);
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }
    uint64_t below(uint64_t n) noexcept { return uint64_t((unsigned __int128)next() * n >> 64); }
    double unit() noexcept { return double(next() >> 11) * 0x1p-53; }

  private:
    uint64_t s_;
};

}  // namespace larder
