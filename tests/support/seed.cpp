#include "support/seed.h"

#include <cstdio>
#include <cstdlib>
#include <random>

uint64_t test_seed() {
    static const uint64_t seed = [] {
        const char* text = std::getenv("LARDER_SEED");
        std::random_device device;
        const uint64_t s = text && *text ? std::strtoull(text, nullptr, 0) : uint64_t(device()) << 32 | device();
        std::printf("LARDER_SEED=%llu\n", (unsigned long long)s);
        std::fflush(stdout);
        return s;
    }();
    return seed;
}

bool test_long() {
    const char* text = std::getenv("LARDER_LONG");
    return text && *text && *text != '0';
}

uint64_t test_percent() {
    const char* text = std::getenv("LARDER_TEST_PERCENT");
    const uint64_t percent = text ? std::strtoull(text, nullptr, 10) : 100;
    return percent >= 1 && percent <= 100 ? percent : 100;
}
