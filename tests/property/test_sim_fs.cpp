// The simulated system against a naive model, and what survives a power cut.
#include "support/cmocka.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "os/sim_os.h"
#include "support/seed.h"

using namespace larder;

namespace {

constexpr uint32_t rw = open_flag::read | open_flag::write | open_flag::create;

std::string contents(SimOs& os, const char* path) {
    auto f = os.open(path, open_flag::read);
    if (!f.ok()) return f.status() == LARDER_E_NOT_FOUND ? "(none)" : "(error)";
    std::string s(f->n_bytes, 0);
    assert_int_equal(os.read_all(f->handle, s.data(), s.size(), 0), LARDER_OK);
    os.close(f->handle);
    return s;
}

void put(SimOs& os, const char* path, const std::string& text, bool sync) {
    auto f = os.open(path, rw | open_flag::truncate);
    assert_true(f.ok());
    assert_int_equal(os.write_all(f->handle, text.data(), text.size(), 0), LARDER_OK);
    if (sync) assert_int_equal(os.sync(f->handle), LARDER_OK);
    os.close(f->handle);
}

// Contents as std::string per file: the same operations on both, the same answers.
void files_match_the_model(void**) {
    Rng rng(test_seed());
    SimOs os(rng.next());
    std::map<std::string, std::string> model;
    const uint64_t rounds = test_rounds(3000);
    for (uint64_t i = 0; i < rounds; ++i) {
        const std::string name = "/f" + std::to_string(rng.below(4));
        switch (rng.below(6)) {
        case 0: {
            assert_int_equal(os.unlink(name.c_str()), LARDER_OK);
            model.erase(name);
            break;
        }
        case 1: {
            const std::string to = "/f" + std::to_string(rng.below(4));
            const larder_status s = os.rename(name.c_str(), to.c_str());
            assert_int_equal(s, model.contains(name) ? LARDER_OK : LARDER_E_NOT_FOUND);
            if (s == LARDER_OK && name != to) model[to] = model[name], model.erase(name);
            break;
        }
        case 2: {
            auto f = os.open(name.c_str(), rw);
            const uint64_t n = rng.below(100000);
            assert_int_equal(os.truncate(f->handle, n), LARDER_OK);
            model[name].resize(n);
            os.close(f->handle);
            break;
        }
        default: {
            auto f = os.open(name.c_str(), rw);
            const uint64_t at = rng.below(80000), n = 1 + rng.below(20000);
            std::string data(n, char('a' + rng.below(26)));
            assert_int_equal(os.write_all(f->handle, data.data(), n, at), LARDER_OK);
            std::string& m = model[name];
            if (m.size() < at + n) m.resize(at + n);
            m.replace(at, n, data);
            if (rng.below(3) == 0) assert_int_equal(os.sync(f->handle), LARDER_OK);
            os.close(f->handle);
        }
        }
        assert_true(contents(os, name.c_str()) == (model.contains(name) ? model[name] : "(none)"));
        assert_int_equal(os.list_dir(Allocator(), "/")->size(), model.size());
    }
    assert_int_equal(os.n_open(), 0);
}

// What was synced, name and contents, is there after any power cut.
void synced_files_survive_every_cut(void**) {
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(60); ++round) {
        SimOs os(rng.next());
        std::map<std::string, std::string> durable;
        for (int i = 0; i < 6; ++i) {
            const std::string name = "/f" + std::to_string(i), text(1 + rng.below(3000), char('a' + i));
            put(os, name.c_str(), text, true);
            durable[name] = text;
        }
        assert_int_equal(os.sync_dir("/"), LARDER_OK);
        for (int i = 0; i < 5; ++i) put(os, ("/g" + std::to_string(i)).c_str(), std::string(2000, 'x'), rng.below(2));
        const SimFs before = os.fs();
        PowerCuts cuts(before, 40, rng.next());
        for (PowerCut cut; cuts.next(cut);) {
            SimFs after = before;
            after.power_cut(cut);
            SimOs again(1, after);
            for (auto& [name, text] : durable) assert_true(contents(again, name.c_str()) == text);
        }
    }
}

std::set<std::string> outcomes(const SimFs& before, const char* path) {
    std::set<std::string> seen;
    PowerCuts cuts(before, 4096, 1);
    for (PowerCut cut; cuts.next(cut);) {
        SimFs after = before;
        after.power_cut(cut);
        SimOs again(1, after);
        seen.insert(contents(again, path));
    }
    return seen;
}

void replace_by_rename_is_atomic_only_with_sync(void**) {
    for (bool sync : {false, true}) {
        SimOs os;
        put(os, "/a", "old", true);
        os.sync_dir("/");
        put(os, "/a.tmp", "new!", sync);
        assert_int_equal(os.rename("/a.tmp", "/a"), LARDER_OK);
        const std::set<std::string> seen = outcomes(os.fs(), "/a");
        assert_true(seen.contains("old") && seen.contains("new!"));
        // Without the sync the name may arrive before the contents.
        assert_int_equal(seen.contains(""), !sync);
        if (sync) assert_int_equal(seen.size(), 2);
        os.sync_dir("/");
        assert_int_equal(outcomes(os.fs(), "/a").contains("old"), false);
    }
}

void writes_tear_at_sectors(void**) {
    SimOs os;
    put(os, "/a", std::string(2048, 'o'), true);
    os.sync_dir("/");
    auto f = os.open("/a", rw);
    const std::string text(1024, 'n');
    os.write_all(f->handle, text.data(), text.size(), 512);
    os.close(f->handle);
    std::set<std::string> seen;
    const SimFs before = os.fs();
    for (uint64_t seed = 0; seed < 64; ++seed) {
        SimFs after = before;
        after.power_cut({Vec<PowerCut::Fate>(1, PowerCut::Fate::torn), seed});
        SimOs again(1, after);
        const std::string s = contents(again, "/a");
        for (size_t sector = 0; sector < 4; ++sector)
            assert_true(s.substr(sector * 512, 512) == std::string(512, s[sector * 512]));
        assert_true(s[0] == 'o' && s[1536] == 'o');
        seen.insert(s);
    }
    assert_int_equal(seen.size(), 4);
}

void a_directory_needs_its_own_sync(void**) {
    SimOs os;
    assert_int_equal(os.make_dir("/d"), LARDER_OK);
    put(os, "/d/a", "text", true);
    os.sync_dir("/d");
    assert_true(outcomes(os.fs(), "/d/a").contains("(none)"));
    os.sync_dir("/");
    const auto seen = outcomes(os.fs(), "/d/a");
    assert_true(seen.size() == 1 && seen.contains("text"));
    assert_int_equal(os.unlink("/d"), LARDER_E_INVALID);
    assert_int_equal(os.open("/d", open_flag::read).status(), LARDER_E_INVALID);
    assert_int_equal(os.list_dir(Allocator(), "/d/a").status(), LARDER_E_INVALID);
}

void the_disk_fills_up(void**) {
    SimOs os;
    os.with_fs([](SimFs& fs) { fs.set_capacity(4 * SimFs::page_bytes); });
    auto f = os.open("/a", rw);
    std::vector<char> page(SimFs::page_bytes, 'x');
    assert_int_equal(os.allocate(f->handle, 0, 2 * page.size()), LARDER_OK);
    assert_int_equal(os.write_all(f->handle, page.data(), page.size(), 2 * page.size()), LARDER_OK);
    assert_int_equal(os.write_all(f->handle, page.data(), page.size(), 3 * page.size()), LARDER_OK);
    assert_int_equal(os.write_all(f->handle, page.data(), 1, 4 * page.size()), LARDER_E_DISK_FULL);
    assert_int_equal(os.write_all(f->handle, page.data(), page.size(), 0), LARDER_OK);  // allocated before
    assert_int_equal(*os.free_bytes("/"), 0);
    os.unlink("/a");
    assert_int_equal(*os.free_bytes("/"), 0);  // still open
    os.close(f->handle);
    assert_int_equal(*os.free_bytes("/"), 4 * page.size());
}

void locks_and_read_only_directories(void**) {
    SimOs os;
    auto a = os.open("/a", rw), b = os.open("/a", rw);
    assert_int_equal(os.lock(a->handle), LARDER_OK);
    assert_int_equal(os.lock(b->handle), LARDER_E_IN_USE);
    os.close(a->handle);
    assert_int_equal(os.lock(b->handle), LARDER_OK);
    os.close(b->handle);
    os.make_dir("/r");
    put(os, "/r/x", "1", true);
    os.with_fs([](SimFs& fs) { fs.set_read_only("/r", true); });
    assert_int_equal(os.open("/r/y", rw).status(), LARDER_E_READ_ONLY);
    assert_int_equal(os.open("/r/x", rw).status(), LARDER_E_READ_ONLY);
    assert_int_equal(os.unlink("/r/x"), LARDER_E_READ_ONLY);
    assert_true(contents(os, "/r/x") == "1");
}

// The same seed, the same order; each request completes once, and the bytes are right.
void rings_permute_by_seed(void**) {
    auto run = [](uint64_t seed) {
        SimOs os(seed);
        auto f = os.open("/a", rw);
        auto ring = os.io_ring(Allocator(), 8, true);
        std::vector<std::string> data(8);
        std::vector<IoOp> ops(8);
        std::vector<IoOp*> in, out(8);
        for (size_t i = 0; i < 8; ++i) {
            data[i] = std::string(100, char('a' + i));
            ops[i] = {.kind = IoOp::Kind::write,
                      .file = f->handle,
                      .buffer = data[i].data(),
                      .n_bytes = 100,
                      .offset = i * 100,
                      .tag = i};
            in.push_back(&ops[i]);
        }
        assert_int_equal(*(*ring)->submit(in), 8);
        assert_int_equal(*(*ring)->submit(in), 0);
        std::string order;
        while (order.size() < 8) {
            const size_t n = *(*ring)->reap(out, 1);
            assert_true(n >= 1);
            for (size_t i = 0; i < n; ++i) {
                assert_int_equal(out[i]->result, 100);
                order += char('0' + out[i]->tag);
            }
        }
        std::string all;
        for (auto& d : data) all += d;
        assert_true(contents(os, "/a") == all);
        os.close(f->handle);
        return order;
    };
    std::set<std::string> orders;
    for (uint64_t seed = 1; seed <= 10; ++seed) {
        orders.insert(run(seed));
        assert_true(run(seed) == run(seed));
    }
    assert_true(orders.size() > 5);
}

void time_moves_only_when_told(void**) {
    SimOs os;
    const uint64_t t = os.now_ns();
    assert_int_equal(os.now_ns(), t);
    os.sleep_ns(5);
    assert_int_equal(os.now_ns(), t + 5);
    os.set_alive({77, 3}, true);
    assert_true(os.alive({77, 3}));
    assert_false(os.alive({77, 4}));
    assert_true(os.alive(os.self()));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(files_match_the_model),
        cmocka_unit_test(synced_files_survive_every_cut),
        cmocka_unit_test(replace_by_rename_is_atomic_only_with_sync),
        cmocka_unit_test(writes_tear_at_sectors),
        cmocka_unit_test(a_directory_needs_its_own_sync),
        cmocka_unit_test(the_disk_fills_up),
        cmocka_unit_test(locks_and_read_only_directories),
        cmocka_unit_test(rings_permute_by_seed),
        cmocka_unit_test(time_moves_only_when_told),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
