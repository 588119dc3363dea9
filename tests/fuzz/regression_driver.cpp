// Runs a fuzz target without a fuzzer: every corpus file as it is, then seeded mutations of each.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "base/hash.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

void mutate(Bytes& b, larder::Rng& rng) {
    const uint64_t n_edits = 1 + rng.below(4);
    for (uint64_t i = 0; i < n_edits; ++i) {
        if (b.empty()) b.push_back(0);
        const size_t at = rng.below(b.size());
        switch (rng.below(6)) {
        case 0:
            b[at] ^= uint8_t(1u << rng.below(8));
            break;
        case 1:
            b[at] = uint8_t(rng.next());
            break;
        case 2:
            b.resize(at);
            break;
        case 3:
            b.insert(b.begin() + long(at), uint8_t(rng.next()));
            break;
        case 4:
            b[at] = rng.below(2) ? 0xff : 0x00;
            break;
        default:
            if (b.size() >= 4) {  // an interesting 32-bit number somewhere
                static constexpr uint32_t numbers[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x10000, 4096};
                const uint32_t v = numbers[rng.below(7)];
                const size_t p = rng.below(b.size() - 3);
                for (size_t k = 0; k < 4; ++k) b[p + k] = uint8_t(v >> 8 * k);
            }
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<Bytes> corpus{{}};
    for (int i = 1; i < argc; ++i) {
        std::error_code none;
        for (auto& entry : std::filesystem::directory_iterator(argv[i], none)) {
            std::ifstream in(entry.path(), std::ios::binary);
            corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
        }
    }
    const char* seed_text = std::getenv("LARDER_SEED");
    const uint64_t seed = seed_text ? std::strtoull(seed_text, nullptr, 10) : 1;
    const uint64_t rounds = std::getenv("LARDER_LONG") ? 200000 : 5000;
    std::printf("seed %llu, %zu corpus files, %llu mutations\n", (unsigned long long)seed, corpus.size() - 1,
                (unsigned long long)rounds);
    for (auto& b : corpus) LLVMFuzzerTestOneInput(b.data(), b.size());
    larder::Rng rng(seed);
    for (uint64_t r = 0; r < rounds; ++r) {
        Bytes b = corpus[rng.below(corpus.size())];
        mutate(b, rng);
        LLVMFuzzerTestOneInput(b.data(), b.size());
    }
    std::printf("no crash\n");
    return 0;
}
