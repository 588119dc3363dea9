// Adapter containers from hostile bytes: as they are, and with the checksums made to hold.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "larder/larder.h"

namespace {

void decode(const std::vector<uint8_t>& b) {
    const larder_span span{b.data(), b.size()};
    larder_adapter_info info = LARDER_ADAPTER_INFO_INIT;
    if (larder_adapter_inspect(span, &info) < 0) return;
    for (uint32_t i = 0; i < std::min<uint32_t>(info.n_matrices, 4); ++i) {
        larder_adapter_entry e = LARDER_ADAPTER_ENTRY_INIT;
        if (larder_adapter_entry_at(span, i, &e) < 0 || uint64_t(e.rows) * e.cols > (1u << 20)) continue;
        std::vector<float> out(size_t(e.rows) * e.cols);
        const uint32_t last = info.n_modules - 1;
        (void)larder_adapter_decode(span, i, nullptr, nullptr, 0, out.data(), out.size());
        if (info.n_modules) (void)larder_adapter_decode(span, i, nullptr, &last, 1, out.data(), out.size());
    }
}

// Checksums of all matrices where the directory places them, then of header and directory.
bool reseal(std::vector<uint8_t>& b) {
    if (b.size() < 160) return false;
    uint8_t* p = b.data();
    larder::store_le<uint32_t>(p, 0x3144414c);
    p[4] = 1;
    larder::store_le<uint64_t>(p + 24, b.size());
    const uint64_t n = larder::load_le<uint32_t>(p + 8), names = larder::load_le<uint32_t>(p + 16);
    const uint64_t front = (128 + 32 * n + names + 7) / 8 * 8;
    if (front > b.size()) return false;
    for (uint64_t i = 0; i < n; ++i) {
        uint8_t* e = p + 128 + 32 * i;
        const uint64_t at = larder::load_le<uint64_t>(e + 16), bytes = (larder::load_le<uint64_t>(e + 24) + 7) & ~7ull;
        if (at <= b.size() && bytes <= b.size() - at)
            larder::store_le<uint32_t>(e + 12, larder::crc32c(0, p + at, bytes));
    }
    larder::store_le<uint32_t>(p + 20, larder::crc32c(larder::crc32c(0, p, 20), p + 24, front - 24));
    return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::vector<uint8_t> bytes(data, data + size);
    decode(bytes);
    if (reseal(bytes)) decode(bytes);
    return 0;
}
