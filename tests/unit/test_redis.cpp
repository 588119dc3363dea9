// The Redis plug-in against one server: values, refusals, and a server that dies, sleeps, fills up or lies.
#include "support/cmocka.h"

#include <chrono>
#include <cstring>
#include <thread>

#include "support/redis_server.h"
#include "support/remote_bed.h"

using namespace std::chrono_literals;

namespace {

constexpr uint64_t ms = RemoteBed::ms;

// Until it says so, or ten seconds are over.
template <class F> bool becomes(F f) {
    for (int i = 0; i < 1000; ++i) {
        if (f()) return true;
        std::this_thread::sleep_for(10ms);
    }
    return false;
}

void values_come_back(void**) {
    if (!have_redis_server()) return;
    RedisServer server;
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", server.address()}, {"part_bytes", "262144"}}), LARDER_OK);
    for (const size_t n : {1ul, 262128ul, 262144ul, 266240ul, 266241ul, 700000ul, 3000000ul}) {
        assert_int_equal(bed.put(n, n), LARDER_OK);
        assert_int_equal(bed.get(n, n), LARDER_OK);
    }
    // Parts as the page about the format says.
    assert_string_equal(server.ask({"STRLEN", RemoteBed::name(266240)}).c_str(), "266256");
    assert_string_equal(server.ask({"EXISTS", RemoteBed::name(266240, 1)}).c_str(), "0");
    assert_string_equal(server.ask({"STRLEN", RemoteBed::name(700000)}).c_str(), "262160");
    assert_string_equal(server.ask({"STRLEN", RemoteBed::name(700000, 2)}).c_str(), "175712");
    // What was cut otherwise is read all the same.
    RemoteBed other;
    assert_int_equal(other.open({{"nodes", server.address()}}), LARDER_OK);
    for (const size_t n : {266241ul, 700000ul, 3000000ul}) assert_int_equal(other.get(n, n), LARDER_OK);
    assert_int_equal(other.put(9, 3000000), LARDER_OK);
    assert_int_equal(bed.get(9, 3000000), LARDER_OK);
    assert_int_equal(bed.counters().n_foreign, 0);
    assert_int_equal(bed.counters().health, LARDER_OK);
}

void runs_through_the_suite(void**) {
    if (!have_redis_server()) return;
    RedisServer server;
    assert_int_equal(run_suite("nodes=" + server.address() + " protocol=2 part_bytes=262144"), 0);
}

void forgetting_is_a_miss(void**) {
    if (!have_redis_server()) return;
    RedisServer server({"--maxmemory", "12mb", "--maxmemory-policy", "allkeys-lru"});
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", server.address()}}), LARDER_OK);
    assert_int_equal(bed.put(1, 100000, 10000 * ms, 60), LARDER_OK);
    assert_int_equal(bed.get(1, 100000), LARDER_OK);
    assert_true(becomes([&] { return bed.get(1, 100000) == LARDER_MISS; }));
    // Evicted for lack of room, some in part.
    uint32_t n_miss = 0;
    for (uint64_t i = 10; i < 30; ++i) assert_int_equal(bed.put(i, 1500000), LARDER_OK);
    for (uint64_t i = 10; i < 30; ++i) {
        const larder_status s = bed.get(i, 1500000);
        assert_true(s == LARDER_OK || s == LARDER_MISS);
        n_miss += s == LARDER_MISS;
    }
    assert_true(n_miss >= 10);
    server.ask({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
    larder_status s = LARDER_OK;
    for (uint64_t i = 40; i < 60 && s == LARDER_OK; ++i) s = bed.put(i, 1000000);
    assert_int_equal(s, LARDER_E_NOSPACE);
    assert_int_equal(bed.get(1, 100000), LARDER_MISS);
}

void passwords(void**) {
    if (!have_redis_server()) return;
    RedisServer server({"--requirepass", "sesame", "--user", "reader", "on", ">open", "~*", "+@all"});
    RemoteBed bed;
    for (const char* protocol : {"2", "3"}) {
        const std::pair<std::string, std::string> where{"nodes", server.address()}, how{"protocol", protocol};
        assert_int_equal(bed.open({where, how, {"password", "sesame"}}), LARDER_OK);
        assert_int_equal(bed.put(1, 1000), LARDER_OK);
        assert_int_equal(bed.get(1, 1000), LARDER_OK);
        assert_int_equal(bed.open({where, how, {"user", "reader"}, {"password", "open"}}), LARDER_OK);
        assert_int_equal(bed.get(1, 1000), LARDER_OK);
        assert_int_equal(bed.open({where, how, {"password", "sesam"}}), LARDER_E_PERMISSION);
        assert_null(std::strstr(larder::last_error().message, "sesam"));
        assert_int_equal(bed.open({where, how, {"user", "nobody"}, {"password", "open"}}), LARDER_E_PERMISSION);
        assert_int_equal(bed.open({where, how}), LARDER_E_PERMISSION);
        assert_string_equal(larder::last_error().field, "remote");
    }
    // The password is changed while we are connected: what was let in stays, what comes later does not.
    assert_int_equal(bed.open({{"nodes", server.address()}, {"password", "sesame"}}), LARDER_OK);
    RedisClient admin(server.port());
    admin.ask({"AUTH", "sesame"});
    admin.ask({"CONFIG", "SET", "requirepass", "other"});
    admin.ask({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
    assert_int_equal(bed.get(1, 1000), LARDER_E_PERMISSION);
    assert_int_equal(bed.counters().health, LARDER_E_PERMISSION);
}

void settings_are_checked(void**) {
    RemoteBed bed;
    const struct {
        const char *name, *value, *told;
        larder_status status;
    } rows[] = {
        {"nodes", "", "nodes", LARDER_E_INVALID},
        {"nodes", "nowhere", "host:port", LARDER_E_INVALID},
        {"colour", "red", "colour", LARDER_E_INVALID},
        {"part_bytes", "1000", "part_bytes", LARDER_E_RANGE},
        {"part_bytes", "much", "part_bytes", LARDER_E_INVALID},
        {"tls", "perhaps", "tls", LARDER_E_INVALID},
        {"cluster", "some", "cluster", LARDER_E_INVALID},
        {"protocol", "4", "protocol", LARDER_E_INVALID},
        {"prefix", "a{b}", "prefix", LARDER_E_INVALID},
        {"user", "me", "password", LARDER_E_INVALID},
    };
    for (const auto& row : rows) {
        assert_int_equal(bed.open({{row.name, row.value}}), row.status);
        assert_non_null(std::strstr(larder::last_error().message, row.told));
    }
}

void a_server_that_dies_comes_back_empty(void**) {
    if (!have_redis_server()) return;
    RedisServer server;
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", server.address()}, {"backoff_ms", "20"}}), LARDER_OK);
    assert_int_equal(bed.put(1, 500000), LARDER_OK);
    server.kill();
    assert_int_equal(bed.get(1, 500000), LARDER_E_PEER_DEAD);
    assert_int_equal(bed.counters().health, LARDER_E_PEER_DEAD);
    assert_int_equal(bed.counters().n_nodes_down, 1);
    // Refused without being sent, all within a blink.
    const uint64_t begin = bed.now();
    for (int i = 0; i < 1000; ++i) assert_int_equal(bed.get(1, 500000), LARDER_E_PEER_DEAD);
    assert_true(bed.now() - begin < 2000 * ms);
    server.start();
    assert_true(becomes([&] { return bed.get(1, 500000) == LARDER_MISS; }));
    assert_int_equal(bed.put(1, 500000), LARDER_OK);
    assert_int_equal(bed.get(1, 500000), LARDER_OK);
    assert_int_equal(bed.counters().health, LARDER_OK);
    // While nobody asked: the connection that waited is of no use, and nobody notices.
    server.kill();
    server.start();
    assert_int_equal(bed.get(1, 500000), LARDER_MISS);
}

void opening_does_not_need_the_server(void**) {
    if (!have_redis_server()) return;
    RedisServer server;
    const int port = server.port();
    server.kill();
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", server.address()}, {"backoff_ms", "20"}}), LARDER_OK);
    assert_int_equal(bed.get(1, 1000), LARDER_E_PEER_DEAD);
    server.start();
    assert_int_equal(server.port(), port);
    assert_true(becomes([&] { return bed.put(1, 1000) == LARDER_OK; }));
    assert_int_equal(bed.get(1, 1000), LARDER_OK);
}

void a_sleeping_server_costs_one_timeout_a_second(void**) {
    if (!have_redis_server()) return;
    RedisServer server;
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", server.address()}, {"backoff_ms", "20"}}), LARDER_OK);
    assert_int_equal(bed.put(1, 500000), LARDER_OK);
    server.pause();
    const uint64_t begin = bed.now();
    uint32_t n_waits = 0;
    while (bed.now() - begin < 1500 * ms) {
        const uint64_t at = bed.now();
        const larder_status s = bed.get(1, 500000, 50 * ms);
        assert_true(s == LARDER_E_TIMEOUT || s == LARDER_E_PEER_DEAD);
        n_waits += bed.now() - at > 25 * ms;
    }
    // A busy machine may make a call look like a wait.
    assert_in_range(n_waits, 1, 6);
    assert_in_range(bed.counters().n_timeouts, 1, 3);
    assert_int_equal(bed.counters().health, LARDER_E_TIMEOUT);
    server.resume();
    assert_true(becomes([&] { return bed.get(1, 500000) == LARDER_OK; }));
    assert_int_equal(bed.counters().n_nodes_down, 0);
}

void other_peoples_values_are_told_apart(void**) {
    if (!have_redis_server()) return;
    RedisServer server;
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", server.address()}, {"part_bytes", "262144"}}), LARDER_OK);
    RedisClient client(server.port());
    auto expect = [&](larder_status status) {
        const uint64_t before = bed.counters().n_foreign;
        assert_int_equal(bed.get(1, 700000), status);
        assert_int_equal(bed.counters().n_foreign, before + 1);
    };
    for (const size_t n : {1ul, 15ul, 16ul, 17ul, 1000ul, 700016ul}) {
        client.ask({"SET", RemoteBed::name(1), std::string(n, 'x')});
        expect(LARDER_E_CORRUPT);
    }
    client.ask({"DEL", RemoteBed::name(1)});
    client.ask({"LPUSH", RemoteBed::name(1), "x"});
    expect(LARDER_E_CORRUPT);
    client.ask({"DEL", RemoteBed::name(1)});
    assert_int_equal(bed.get(1, 700000), LARDER_MISS);
    // A head that promises too much.
    std::string head("LDR1\0\0\4\0\377\377\377\377\0\0\0\0", 16);
    client.ask({"SET", RemoteBed::name(1), head + std::string(1000, 'x')});
    expect(LARDER_E_CORRUPT);
    // Of parts: one is missing, too short, or too long.
    for (const char* what : {"", "short", "long"}) {
        for (int part = 0; part < 3; ++part) {
            assert_int_equal(bed.put(1, 700000), LARDER_OK);
            assert_int_equal(bed.get(1, 700000), LARDER_OK);
            const std::string name = RemoteBed::name(1, part);
            const std::string old = client.ask({"GET", name});
            if (!*what && part == 0) continue;  // a plain miss
            if (!*what) client.ask({"DEL", name});
            if (*what == 's') client.ask({"SET", name, old.substr(0, old.size() - 1)});
            if (*what == 'l') client.ask({"APPEND", name, "y"});
            const larder_status s = bed.get(1, 700000);
            // One byte more than anybody asks for is not seen.
            assert_true(s == LARDER_MISS || (*what == 'l' && s == LARDER_OK));
        }
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back),
        cmocka_unit_test(runs_through_the_suite),
        cmocka_unit_test(forgetting_is_a_miss),
        cmocka_unit_test(passwords),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(a_server_that_dies_comes_back_empty),
        cmocka_unit_test(opening_does_not_need_the_server),
        cmocka_unit_test(a_sleeping_server_costs_one_timeout_a_second),
        cmocka_unit_test(other_peoples_values_are_told_apart),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
