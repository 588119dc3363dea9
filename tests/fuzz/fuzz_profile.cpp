// Loading profiles from hostile bytes: as they are, and with the checksum made to hold.
#include <cstdlib>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "larder/larder.h"

namespace {

void load(const std::vector<uint8_t>& bytes) {
    static larder_context* context = [] {
        larder_context* made = nullptr;
        if (larder_context_create(nullptr, &made) < 0) std::abort();
        return made;
    }();
    larder_profile* profile = nullptr;
    if (larder_profile_load(context, {bytes.data(), bytes.size()}, &profile) < 0) return;
    larder_key hash;
    if (larder_profile_hash(profile, &hash) < 0) std::abort();
    larder_profile_destroy(profile);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (!size) return 0;
    std::vector<uint8_t> bytes(data, data + size);
    load(bytes);
    if (size < 76) return 0;
    larder::store_le<uint32_t>(bytes.data(), 0x31504b4c);
    bytes[4] = 1;
    larder::store_le<uint64_t>(bytes.data() + 32, size);
    larder::store_le<uint32_t>(bytes.data() + size - 4, larder::crc32c(0, bytes.data(), size - 4));
    load(bytes);
    return 0;
}
