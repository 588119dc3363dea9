// liblarder-cuda.so as a file: one symbol, no driver linked, and calm where there is none.
#include "support/cmocka.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/hash.h"
#include "device/device.h"
#include "larder/plugin/device_v1.h"
#include "os/os.h"
#include "support/seed.h"

using namespace larder;

namespace {

std::string plugin_path() {
    const char* build = std::getenv("LARDER_BUILD_DIR");
    return std::string(build ? build : ".") + "/lib/liblarder-cuda.so";
}

bool is_built() {
    if (access(plugin_path().c_str(), R_OK) == 0) return true;
    print_message("SKIPPED: liblarder-cuda.so was not built\n");
    return false;
}

std::string output_of(const std::string& command) {
    std::string out;
    if (FILE* f = popen(command.c_str(), "r")) {
        for (char line[512]; std::fgets(line, sizeof line, f);) out += line;
        pclose(f);
    }
    return out;
}

void exports_one_symbol_and_needs_no_driver(void**) {
    if (!is_built()) return;
    const std::string symbols = output_of("nm -D --defined-only " + plugin_path());
    if (symbols.empty()) {
        print_message("SKIPPED: nm is not here\n");
        return;
    }
    assert_non_null(std::strstr(symbols.c_str(), " T larder_device_plugin_v1\n"));
    assert_int_equal(std::count(symbols.begin(), symbols.end(), '\n'), 1);
    const std::string dynamic = output_of("readelf -d " + plugin_path());
    assert_null(std::strstr(dynamic.c_str(), "libcuda"));
}

void answers_with_or_without_a_gpu(void**) {
    if (!is_built()) return;
    void* h = dlopen(plugin_path().c_str(), RTLD_NOW | RTLD_LOCAL);
    assert_non_null(h);
    const auto entry = reinterpret_cast<larder_device_plugin_v1_fn>(dlsym(h, LARDER_DEVICE_PLUGIN_V1_SYMBOL));
    const larder_device_table_v1* t = entry();
    assert_int_equal(t->version, 1);
    assert_int_equal(t->struct_size, sizeof *t);
    assert_string_equal(t->name, "cuda");
    assert_int_equal(t->score() > 0, t->count() > 0);
    setenv("LARDER_CUDA_PLUGIN", plugin_path().c_str(), 1);
    assert_int_equal(n_cuda_devices(), t->count());
    auto d = open_device(Allocator(), posix_os(), "cuda:1023", {});
    assert_int_equal(d.status(), LARDER_E_NO_DEVICE);
    print_message("%d GPU(s); %s\n", t->count(), last_error().message);
    unsetenv("LARDER_CUDA_PLUGIN");
}

// Gather on a real GPU, where there is one; on every machine the same body runs in property/test_tile.
void gathers_on_a_gpu(void**) {
    if (!is_built()) return;
    setenv("LARDER_CUDA_PLUGIN", plugin_path().c_str(), 1);
    auto opened = open_device(Allocator(), posix_os(), "cuda:0", {});
    unsetenv("LARDER_CUDA_PLUGIN");
    if (!opened.ok()) {
        print_message("SKIPPED: %s\n", last_error().message);
        return;
    }
    Device& d = **opened;
    constexpr uint64_t block = 4096 + 16, n = 100, n_pool = 200;
    std::vector<unsigned char> pool(block * n_pool), want(block * n, 0), got(block * n);
    Rng rng(test_seed());
    for (auto& c : pool) c = static_cast<unsigned char>(rng.next());
    std::vector<int32_t> table(n);
    for (size_t i = 0; i < n; ++i) {
        table[i] = int32_t(rng.below(n_pool + 1)) - 1;
        if (table[i] >= 0) std::memcpy(&want[i * block], &pool[uint64_t(table[i]) * block], block);
    }
    const DevicePtr p = *d.alloc(pool.size()), q = *d.alloc(want.size()), t = *d.alloc(4 * n);
    const EventId e = *d.event_create();
    assert_int_equal(d.copy_in(p, pool.data(), pool.size(), 0), LARDER_OK);
    assert_int_equal(d.copy_in(t, table.data(), 4 * n, 0), LARDER_OK);
    assert_int_equal(d.fill_zero(q, want.size(), 0), LARDER_OK);
    assert_int_equal(d.gather({p, q, t, block, block, n, false}, 0), LARDER_OK);
    assert_int_equal(d.copy_out(got.data(), q, got.size(), 0), LARDER_OK);
    assert_int_equal(d.event_record(e, 0), LARDER_OK);
    assert_int_equal(d.event_wait(e), LARDER_OK);
    assert_memory_equal(got.data(), want.data(), want.size());
    if (d.info().can_map) {
        const uint64_t g = d.info().granularity_bytes;
        const DevicePtr r = *d.reserve(2 * g);
        const uint64_t page = *d.page_create(g);
        assert_int_equal(d.map(r + g, g, page, 0), LARDER_OK);
        assert_int_equal(d.copy(r + g, p, 4096, 0), LARDER_OK);
        d.event_record(e, 0);
        assert_int_equal(d.event_wait(e), LARDER_OK);
        assert_int_equal(d.unmap(r + g, g), LARDER_OK);
        d.page_release(page);
        d.unreserve(r, 2 * g);
    }
    d.event_destroy(e);
    d.free(p, pool.size()), d.free(q, want.size()), d.free(t, 4 * n);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(exports_one_symbol_and_needs_no_driver),
                                cmocka_unit_test(answers_with_or_without_a_gpu), cmocka_unit_test(gathers_on_a_gpu)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
