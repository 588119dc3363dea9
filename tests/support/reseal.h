// Makes every checksum of a damaged stream hold again, so that tests reach what lies behind them. Written from
// docs/formats/stream.md alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace stream_test {

using larder::load_le;
using larder::store_le;

inline uint64_t align_up(uint64_t n, uint64_t a) {
    return (n + a - 1) / a * a;
}

// False when the header's numbers do not describe a stream of this length at all.
inline bool reseal(std::vector<uint8_t>& s) {
    if (s.size() < 128 + 32) return false;
    uint8_t* h = s.data();
    store_le<uint32_t>(h, 0x31564b4c);
    h[4] = 1;
    const uint32_t flags = load_le<uint16_t>(h + 6) & 15, levels = 1 + std::min<uint32_t>(flags & 7, 4);
    store_le<uint16_t>(h + 6, uint16_t((flags & 8) | (levels - 1)));
    store_le<uint64_t>(h + 8, s.size());
    const uint64_t layers = load_le<uint16_t>(h + 16), tokens = load_le<uint32_t>(h + 20),
                   chunk = load_le<uint32_t>(h + 36);
    if (!chunk || tokens > (1u << 24)) return false;
    const uint64_t n_extents = levels * layers * (load_le<uint32_t>(h + 28) ? 2 : 1) * ((tokens + chunk - 1) / chunk);
    const uint64_t profile = align_up(128 + uint64_t(load_le<uint32_t>(h + 48)), 64),
                   profile_bytes = load_le<uint32_t>(h + 52);
    const uint64_t index = align_up(profile + profile_bytes, 64), payload = align_up(index + 8 * n_extents, 64),
                   end = s.size() - 32;
    if (payload > end) return false;
    // A profile inside ends with a checksum of its own.
    if (profile_bytes > 8 && load_le<uint32_t>(h + profile) == 0x31504b4c)
        store_le<uint32_t>(h + profile + profile_bytes - 4, larder::crc32c(0, h + profile, profile_bytes - 4));
    uint64_t at = payload;
    for (uint64_t i = 0; i < n_extents; ++i) {
        uint64_t n = align_up(load_le<uint32_t>(h + index + 8 * i), 8);
        // The last one takes what is left, so that the sum holds whatever was cut or inserted.
        if (n > end - at || (i + 1 == n_extents && n != end - at)) {
            n = end - at;
            store_le<uint32_t>(h + index + 8 * i, uint32_t(n));
        }
        store_le<uint32_t>(h + index + 8 * i + 4, larder::crc32c(0, h + at, n));
        at += n;
    }
    store_le<uint32_t>(h + 56, larder::crc32c(0, h + 128, payload - 128));
    store_le<uint32_t>(h + 60, larder::crc32c(larder::crc32c(0, h, 60), h + 64, 64));
    uint8_t* t = h + end;
    store_le<uint64_t>(t, 0x31454e4f44564b4cu);
    store_le<uint64_t>(t + 8, s.size());
    store_le<uint32_t>(t + 16, load_le<uint32_t>(h + 60));
    store_le<uint32_t>(t + 20, load_le<uint32_t>(h + 56));
    store_le<uint32_t>(t + 24, 0);
    store_le<uint32_t>(t + 28, larder::crc32c(0, t, 28));
    return true;
}

}  // namespace stream_test
