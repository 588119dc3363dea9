#include "base/hash.h"

#include <sodium.h>

namespace larder {

static_assert(sizeof(crypto_generichash_state) <= 384 && alignof(crypto_generichash_state) <= 64);

Blake2b::Blake2b(const void* key, size_t key_bytes) noexcept {
    crypto_generichash_init(reinterpret_cast<crypto_generichash_state*>(state_), static_cast<const unsigned char*>(key),
                            key_bytes, 32);
}

Blake2b& Blake2b::add(const void* data, size_t n) noexcept {
    crypto_generichash_update(reinterpret_cast<crypto_generichash_state*>(state_),
                              static_cast<const unsigned char*>(data), n);
    return *this;
}

larder_key Blake2b::finish() noexcept {
    larder_key k;
    crypto_generichash_final(reinterpret_cast<crypto_generichash_state*>(state_), k.bytes, 32);
    return k;
}

}  // namespace larder
