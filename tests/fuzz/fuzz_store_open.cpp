// Hostile bytes as a store's data file: opening, reading, checking and repairing it must end with a documented status
// and touch no foreign memory.
//
// The input is a list of edits {offset in 64-byte units (2 bytes), length (1), bytes...} of a small store that is in
// order, so that a fuzzer gets behind the first checksum; the first byte says whether checksums of superblocks are made
// right again and whether the file is replaced altogether.
#include "core/context.h"
#include "larder/store.h"
#include "os/sim_os.h"
#include "support/store_fixture.h"

#include "base/crc32c.h"
#include "store/tiers/format.h"

using namespace larder;

namespace {

struct Base {
    SimFs fs;
    std::vector<unsigned char> bytes;
};

larder_context* make_context(SimOs& os) {
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    o.seed = 1;
    larder_context* c = nullptr;
    return larder_context::create(&o, os, &c) == LARDER_OK ? c : nullptr;
}

larder_store_options options() {
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.directory = "/store";
    o.file_bytes = 4 * 65536 + 16384;
    o.segment_bytes = 65536;
    return o;
}

const Base& base() {
    static const Base b = [] {
        SimOs os(1);
        larder_context* c = make_context(os);
        larder_store* s = nullptr;
        const larder_store_options o = options();
        larder_store_open(c, &o, &s);
        for (uint64_t k = 0; k < 6; ++k) put_one(s, make_key(k), make_meta(), make_payload(k, 50 + 3000 * k));
        const larder_key gone = make_key(3);
        larder_store_evict(s, &gone, 1, LARDER_TIER_FILE, nullptr);
        larder_store_flush(s, nullptr, 0, nullptr);
        larder_store_close(s);
        larder_context_destroy(c);
        Base out{os.fs(), {}};
        const auto file = out.fs.lookup("/store/store.larder");
        out.bytes.resize(out.fs.size(*file));
        out.fs.read(*file, out.bytes.data(), out.bytes.size(), 0);
        return out;
    }();
    return b;
}

std::vector<unsigned char> edited(const uint8_t* data, size_t size) {
    std::vector<unsigned char> bytes = base().bytes;
    if (size == 0) return bytes;
    const uint8_t mode = data[0];
    if (mode & 2) return std::vector<unsigned char>(data + 1, data + size);
    for (size_t at = 1; at + 3 <= size;) {
        const size_t offset = (data[at] | size_t(data[at + 1]) << 8) * 64 % bytes.size();
        const size_t n = std::min<size_t>({data[at + 2], size - at - 3, bytes.size() - offset});
        std::copy_n(data + at + 3, n, bytes.begin() + long(offset));
        at += 3 + n;
    }
    if (mode & 1)
        for (size_t i = 0; i < format::n_superblocks; ++i) {
            unsigned char* block = bytes.data() + i * format::block_bytes;
            store_le<uint32_t>(block + format::block_bytes - 4, crc32c(0, block, format::block_bytes - 4));
        }
    return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::vector<unsigned char> bytes = edited(data, size);
    SimFs fs = base().fs;
    const auto file = fs.lookup("/store/store.larder");
    fs.resize(*file, 0);
    fs.write(*file, bytes.data(), bytes.size(), 0);
    fs.sync(*file);
    SimOs os(2, std::move(fs));
    larder_context* c = make_context(os);
    larder_store_report report = LARDER_STORE_REPORT_INIT;
    larder_store_check(c, "/store", 0, nullptr, nullptr, &report);
    larder_store* s = nullptr;
    const larder_store_options o = options();
    if (larder_store_open(c, &o, &s) == LARDER_OK) {
        std::vector<unsigned char> out;
        for (uint64_t k = 0; k < 6; ++k) {
            // Checksums keep accidents out, not forgers; but a payload that was not touched comes back as it is.
            get_one(s, make_key(k), make_want(), out, 60000);
        }
        put_one(s, make_key(9), make_meta(), make_payload(9, 20000));
        larder_store_flush(s, nullptr, 0, nullptr);
        if (larder_store_verify(s) == LARDER_E_INTERNAL) __builtin_trap();
        larder_store_close(s);
    }
    larder_store_check(c, "/store", LARDER_CHECK_REPAIR, nullptr, nullptr, &report);
    larder_context_destroy(c);
    return 0;
}
