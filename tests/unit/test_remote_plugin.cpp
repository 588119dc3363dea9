// Plug-ins of the remote tier as the loader meets them: good ones, odd ones, and a batch through a directory.
#include "support/cmocka.h"

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "larder/larder.h"
#include "os/sim_os.h"
#include "store/tiers/remote_plugin.h"
#include "support/temp_dir.h"

using namespace larder;

namespace {

std::string library(const char* name) {
    const char* build = std::getenv("LARDER_BUILD_DIR");
    return std::string(build ? build : ".") + "/lib/" + name;
}

struct Bed {
    Bed() { assert_int_equal(larder_context::create(nullptr, posix_os(), &context), LARDER_OK); }
    ~Bed() { larder_context_destroy(context); }
    larder_context* context = nullptr;
};

void odd_plugins_are_refused(void**) {
    const struct {
        const char* file;
        const char* told;
    } rows[] = {{"odd_version.so", "version 2"}, {"odd_size.so", "bytes"},     {"odd_holes.so", "missing"},
                {"odd_score.so", "of no use"},   {"odd_table.so", "no table"}, {"odd_symbol.so", "no symbol"}};
    for (const auto& row : rows) {
        const auto t = load_remote_plugin(posix_os(), library(row.file).c_str());
        assert_int_equal(t.status(), LARDER_E_UNSUPPORTED);
        assert_string_equal(last_error().field, "plugin");
        if (!std::strstr(last_error().message, row.told)) print_message("%s: %s\n", row.file, last_error().message);
        assert_non_null(std::strstr(last_error().message, row.told));
    }
}

void what_is_not_there_is_said(void**) {
    assert_int_equal(load_remote_plugin(posix_os(), "no-such-thing").status(), LARDER_E_NOT_FOUND);
    assert_non_null(std::strstr(last_error().message, "liblarder-no-such-thing.so"));
    assert_int_equal(load_remote_plugin(posix_os(), "/nowhere/plugin.so").status(), LARDER_E_NOT_FOUND);
    for (const char* name : {"", "Redis", "a b", "redis.so"})
        assert_int_equal(load_remote_plugin(posix_os(), name).status(), LARDER_E_INVALID);
    SimOs sim(1);
    assert_int_equal(load_remote_plugin(sim, "redis").status(), LARDER_E_UNSUPPORTED);
}

void a_directory_keeps_values(void**) {
    Bed bed;
    TempDir dir;
    const std::string plugin = library("liblarder-directory.so");
    const larder_remote_setting_v1 settings[] = {{"directory", dir.path().c_str()}};
    {
        auto remote = Remote::open(*bed.context, plugin.c_str(), settings);
        assert_int_equal(remote.status(), LARDER_OK);
        std::vector<unsigned char> value(100000), back(100000);
        for (size_t i = 0; i < value.size(); ++i) value[i] = uint8_t(i * 7 + i / 256);
        larder_remote_piece_v1 from{value.data(), value.size()}, to{back.data(), back.size()};
        larder_remote_item_v1 item{{{1, 2, 3}}, &from, 1, 0, 0, 0};
        assert_int_equal((*remote)->run(LARDER_REMOTE_PUT, {&item, 1}, 0, UINT64_MAX), LARDER_OK);
        assert_int_equal(item.status, LARDER_OK);
        item.pieces = &to;
        assert_int_equal((*remote)->run(LARDER_REMOTE_GET, {&item, 1}, 0, UINT64_MAX), LARDER_OK);
        assert_int_equal(item.status, LARDER_OK);
        assert_int_equal(item.n_bytes, value.size());
        assert_memory_equal(back.data(), value.data(), value.size());
        assert_int_equal((*remote)->run(LARDER_REMOTE_GET, {&item, 1}, 0, 0), LARDER_OK);
        assert_int_equal(item.status, LARDER_E_TIMEOUT);
        assert_int_equal((*remote)->counters().health, LARDER_OK);
    }
    const larder_remote_setting_v1 wrong[] = {{"directory", "/nowhere"}};
    assert_int_equal(Remote::open(*bed.context, plugin.c_str(), wrong).status(), LARDER_E_INVALID);
    assert_string_equal(last_error().field, "remote");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(odd_plugins_are_refused),
        cmocka_unit_test(what_is_not_there_is_said),
        cmocka_unit_test(a_directory_keeps_values),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
