// Chain texts: parsing never fails badly, and what it accepts prints as a text that parses to the same.
#include <cstdlib>
#include <cstring>
#include <string>

#include "codec/chain.h"
#include "codec/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    larder::Chain a, b;
    if (larder::parse_chain(text.c_str(), a) < 0) return 0;
    char once[128], twice[128];
    larder::print_chain(a, once, sizeof once);
    if (larder::parse_chain(once, b) < 0) std::abort();
    larder::print_chain(b, twice, sizeof twice);
    if (std::strcmp(once, twice)) std::abort();
    std::byte stages[larder::max_stage_bytes];
    const size_t n = larder::write_stages(a, nullptr, {}, stages);
    larder_key hash;
    bool names = false;
    larder::Link link;
    if (larder::read_stages({stages, n}, b, hash, names, link) < 0 || names) std::abort();
    return 0;
}
