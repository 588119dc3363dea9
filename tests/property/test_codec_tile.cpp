// The codec's kernel bodies for GPUs, run on the host: every order of threads gives what the scalar code gives, without
// a race.
#include "support/cmocka.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "../../cuda/kernels/dequantize_pages.h"
#include "../../cuda/kernels/rans_decode.h"
#include "../../cuda/tile/host_block.h"
#include "base/hash.h"
#include "base/numeric.h"
#include "codec/rans.h"
#include "support/seed.h"

using namespace larder;
using namespace larder::tile;

namespace {

RansTable random_table(Rng& r) {
    TableSpec s{0, 0, uint8_t(1 + r.below(rans_max_symbols)), {}};
    uint32_t left = 256;
    for (uint32_t i = 0; i < s.n; ++i) {
        s.freq[i] = uint8_t(1 + r.below(std::min(left - (s.n - 1 - i), 255u)));
        left -= s.freq[i];
    }
    RansTable t;
    t.expand(s);
    return t;
}

struct Extent {
    std::vector<uint8_t> ids, symbols, want, got;
    std::vector<uint16_t> words;
    RansJob job{};
    uint32_t state[rans_lanes];

    Extent(Rng& r, const std::vector<RansTable>& tables) : ids(1 + r.below(40)) {
        for (uint8_t& id : ids) id = uint8_t(r.below(tables.size()));
        job.tables = tables.data(), job.ids = ids.data(), job.period = uint32_t(ids.size());
        job.n_full_rows = uint32_t(r.below(30)), job.tail_rows = uint32_t(r.below(4));
        job.tail_lanes = uint32_t(1 + r.below(31));
        symbols.assign(size_t(job.n_rows()) * rans_lanes, 0);
        for (size_t i = 0; i < symbols.size(); ++i)
            symbols[i] = tables[ids[i / rans_lanes % ids.size()]].lut[r.below(256)];
        want.assign(symbols.size(), 0xee), got = want;
        std::vector<uint16_t> room(symbols.size() + 64);
        job.symbols = symbols.data();
        for (uint32_t& x : job.state) x = rans_floor | uint32_t(r.next() & 0xffff);
        const size_t n = rans_encode_scalar(job, room.data() + room.size());
        words.assign(room.end() - ptrdiff_t(n), room.end());
        if (r.below(4) == 0) words.resize(r.below(n + 1));
        job.words = reinterpret_cast<const std::byte*>(words.data()), job.n_words = words.size();
        std::copy_n(job.state, rans_lanes, state);
        job.symbols = want.data();
    }
};

void rans_rows_as_the_scalar_decoder(void**) {
    Rng r(test_seed());
    for (uint64_t round = 0; round < test_rounds(60); ++round) {
        std::vector<RansTable> tables;
        const uint64_t n_tables = 1 + r.below(5);
        for (uint64_t i = 0; i < n_tables; ++i) tables.push_back(random_table(r));
        std::vector<RansWarpTable> warp_tables(tables.size());
        for (size_t i = 0; i < tables.size(); ++i) {
            std::memcpy(warp_tables[i].symbol, tables[i].lut, sizeof tables[i].lut);
            std::memcpy(warp_tables[i].fc, tables[i].fc, sizeof tables[i].fc);
        }
        std::vector<Extent> extents;
        const uint64_t n = 1 + r.below(4);
        extents.reserve(n);
        for (uint64_t i = 0; i < n; ++i) extents.emplace_back(r, tables);
        std::vector<RansExtent> args;
        for (Extent& e : extents)
            args.push_back({reinterpret_cast<const unsigned char*>(e.words.data()), e.ids.data(), e.got.data(), e.state,
                            uint32_t(e.words.size()), e.job.period, e.job.n_full_rows, e.job.tail_rows,
                            e.job.tail_lanes, 0, 0});
        const RansDecodeArgs a{warp_tables.data(), args.data(), uint32_t(warp_tables.size())};
        const int64_t races = run_grid(int64_t(n), rans_warp, r.next(), [&](HostBlock& b) {
            RansShared<HostBlock> shared(b);
            rans_decode(b, shared, a);
        });
        assert_int_equal(races, 0);
        for (size_t i = 0; i < n; ++i) {
            Extent& e = extents[i];
            rans_decode_scalar(e.job, 0);
            assert_int_equal(args[i].overrun, e.job.overrun);
            if (e.job.overrun) continue;
            assert_int_equal(args[i].used, e.job.at);
            assert_memory_equal(e.state, e.job.state, sizeof e.state);
            assert_memory_equal(e.got.data(), e.want.data(), e.want.size());
        }
    }
}

void dequantized_tokens_lie_in_their_pages(void**) {
    Rng r(test_seed() + 1);
    for (uint64_t round = 0; round < test_rounds(60); ++round) {
        DequantizeArgs a{};
        a.group = 2 * uint32_t(1 + r.below(20));
        a.width = a.group * uint32_t(1 + r.below(12));
        a.n_tokens = uint32_t(1 + r.below(50));
        a.page_tokens = uint32_t(1 + r.below(20));
        a.token_stride = 2 * a.width + 4 * r.below(3);
        a.page_offset = 4 * r.below(5);
        a.page_bytes = a.page_offset + a.page_tokens * a.token_stride + 4 * r.below(4);
        const uint32_t groups = a.width / a.group, n_pages = (a.n_tokens + a.page_tokens - 1) / a.page_tokens;
        std::vector<unsigned char> codes(size_t(a.n_tokens) * a.width / 2), pool(a.page_bytes * n_pages, 0xee);
        std::vector<uint16_t> scales(size_t(a.n_tokens) * 2 * groups);
        for (auto& c : codes) c = (unsigned char)r.next();
        for (auto& s : scales) {
            s = uint16_t(r.next());
            if ((s & 0x7c00) == 0x7c00) s = uint16_t(s & 0x83ff);  // finite, subnormals among them
        }
        std::vector<int32_t> table(n_pages);
        for (uint32_t i = 0; i < n_pages; ++i) table[i] = int32_t(n_pages - 1 - i);
        if (r.below(3) == 0) table[r.below(n_pages)] = -1;
        auto want = pool;
        for (uint32_t t = 0; t < a.n_tokens; ++t) {
            const int32_t page = table[t / a.page_tokens];
            for (uint32_t c = 0; page >= 0 && c < a.width; ++c) {
                const float code = float(codes[(size_t(t) * a.width + c) / 2] >> c % 2 * 4 & 15);
                const uint16_t* s = scales.data() + size_t(t) * 2 * groups + c / a.group;
                const float y = code * f16_to_f32(s[0]) + f16_to_f32(s[groups]);
                const uint16_t h = f32_to_f16(clamp(y, -65504.0f, 65504.0f));
                std::memcpy(want.data() + uint64_t(page) * a.page_bytes + a.page_offset +
                                t % a.page_tokens * a.token_stride + 2 * c,
                            &h, 2);
            }
        }
        a.codes = codes.data(), a.scales = scales.data(), a.pool = pool.data(), a.table = table.data();
        const int64_t races = run_grid(a.n_tokens, dequantize_threads, r.next(), [&](HostBlock& b) {
            HostBlock::Shared<float, 2 * dequantize_groups> shared(b);
            dequantize_pages(b, shared, a);
        });
        assert_int_equal(races, 0);
        assert_memory_equal(pool.data(), want.data(), pool.size());
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(rans_rows_as_the_scalar_decoder),
                                cmocka_unit_test(dequantized_tokens_lie_in_their_pages)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
