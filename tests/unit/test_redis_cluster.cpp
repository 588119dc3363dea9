// The Redis plug-in against a cluster: slots, redirections, resharding, and nodes that die or sleep.
#include "support/cmocka.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "support/redis_server.h"
#include "support/remote_bed.h"

using namespace std::chrono_literals;

namespace {

constexpr uint64_t ms = RemoteBed::ms;
constexpr uint32_t n_values = 60;
constexpr size_t value_bytes = 20000;

RedisCluster *masters_only, *with_replicas;

size_t count(const std::vector<larder_status>& all, larder_status s) {
    return size_t(std::count(all.begin(), all.end(), s));
}

template <class F> bool becomes(F f) {
    for (int i = 0; i < 1000; ++i) {
        if (f()) return true;
        std::this_thread::sleep_for(10ms);
    }
    return false;
}

// Where a slot is, and the slot of a value.
size_t master_of(size_t n_masters, int slot) {
    for (size_t i = 0; i < n_masters; ++i)
        if (slot < int(16384 * (i + 1) / n_masters)) return i;
    return 0;
}
int slot_of(RedisCluster& cluster, uint64_t n) {
    return std::stoi(cluster[0].ask({"CLUSTER", "KEYSLOT", RemoteBed::name(n)}));
}

void runs_through_the_suite(void**) {
    if (!masters_only) return;
    assert_int_equal(run_suite("nodes=" + (*masters_only)[3].address()), 0);
}

void a_batch_is_one_round_trip_to_each_node(void**) {
    if (!masters_only) return;
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", (*masters_only)[0].address()}}), LARDER_OK);
    assert_int_equal(bed.counters().n_nodes, 6);
    for (int i = 0; i < 2; ++i) {
        const auto before = bed.counters();
        assert_int_equal(count(bed.batch(LARDER_REMOTE_EXISTS, 5000, 1000, 0), LARDER_MISS), 1000);
        const auto after = bed.counters();
        assert_int_equal(after.n_commands - before.n_commands, 1000);
        assert_int_equal(after.n_round_trips - before.n_round_trips, 6);
        assert_int_equal(after.n_redirects, 0);
    }
}

void told_that_it_stands_alone(void**) {
    if (!masters_only) return;
    RemoteBed bed;
    RedisServer alone;
    assert_int_equal(bed.open({{"nodes", alone.address()}, {"cluster", "yes"}}), LARDER_E_INVALID);
    assert_int_equal(bed.open({{"nodes", alone.address()}, {"cluster", "no"}}), LARDER_OK);
    assert_int_equal(bed.put(1, 1000), LARDER_OK);
    assert_int_equal(bed.get(1, 1000), LARDER_OK);
}

void slots_move_under_load(void**) {
    if (!masters_only) return;
    RedisCluster& cluster = *masters_only;
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", cluster[0].address()}}), LARDER_OK);
    const uint64_t n = 77;
    const int slot = slot_of(cluster, n);
    const size_t from = master_of(6, slot), to = (from + 1) % 6;
    assert_int_equal(bed.put(n, value_bytes), LARDER_OK);
    const std::string s = std::to_string(slot), from_id = cluster.id(from), to_id = cluster.id(to);
    assert_string_equal(cluster[to].ask({"CLUSTER", "SETSLOT", s, "IMPORTING", from_id}).c_str(), "OK");
    assert_string_equal(cluster[from].ask({"CLUSTER", "SETSLOT", s, "MIGRATING", to_id}).c_str(), "OK");
    // Still there, then asked for at its new place, and what is not there yet is put at the new place.
    assert_int_equal(bed.get(n, value_bytes), LARDER_OK);
    const std::string moved = cluster[from].ask(
        {"MIGRATE", "127.0.0.1", std::to_string(cluster[to].port()), RemoteBed::name(n), "0", "5000"});
    assert_string_equal(moved.c_str(), "OK");
    const uint64_t before = bed.counters().n_redirects;
    assert_int_equal(bed.get(n, value_bytes), LARDER_OK);
    assert_int_equal(bed.counters().n_redirects, before + 1);
    assert_int_equal(bed.put(n, value_bytes), LARDER_OK);
    for (size_t i : {to, from}) cluster[i].ask({"CLUSTER", "SETSLOT", s, "NODE", to_id});
    // Moved for good: learnt once.
    assert_int_equal(bed.get(n, value_bytes), LARDER_OK);
    const uint64_t learnt = bed.counters().n_redirects;
    for (int i = 0; i < 5; ++i) assert_int_equal(bed.get(n, value_bytes), LARDER_OK);
    assert_int_equal(bed.counters().n_redirects, learnt);
    // And back.
    assert_true(becomes([&] {
        return cluster[to].ask({"CLUSTER", "SETSLOT", s, "MIGRATING", from_id}) == "OK" &&
               cluster[from].ask({"CLUSTER", "SETSLOT", s, "IMPORTING", to_id}) == "OK";
    }));
    cluster[to].ask({"MIGRATE", "127.0.0.1", std::to_string(cluster[from].port()), RemoteBed::name(n), "0", "5000"});
    for (size_t i : {from, to}) cluster[i].ask({"CLUSTER", "SETSLOT", s, "NODE", from_id});
    assert_int_equal(bed.get(n, value_bytes), LARDER_OK);
}

void a_sleeping_node_costs_only_its_share(void**) {
    if (!masters_only) return;
    RedisCluster& cluster = *masters_only;
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", cluster.addresses()}, {"backoff_ms", "20"}}), LARDER_OK);
    assert_int_equal(count(bed.batch(LARDER_REMOTE_PUT, 0, n_values, value_bytes), LARDER_OK), n_values);
    size_t share = 0;
    for (uint64_t i = 0; i < n_values; ++i) share += master_of(6, slot_of(cluster, i)) == 2;
    assert_true(share > 0);
    cluster[2].pause();
    const uint64_t begin = bed.now();
    // The first one to wait does so no longer than it may; those after it do not wait.
    auto got = bed.batch(LARDER_REMOTE_GET, 0, n_values, value_bytes, 100 * ms);
    assert_int_equal(count(got, LARDER_OK), n_values - share);
    assert_int_equal(count(got, LARDER_E_TIMEOUT), share);
    assert_true(bed.now() - begin >= 100 * ms);
    got = bed.batch(LARDER_REMOTE_GET, 0, n_values, value_bytes, 5000 * ms);
    assert_int_equal(count(got, LARDER_OK), n_values - share);
    assert_int_equal(count(got, LARDER_E_PEER_DEAD), share);
    assert_true(bed.now() - begin < 3000 * ms);
    assert_int_equal(bed.counters().health, LARDER_PARTIAL);
    cluster[2].resume();
    assert_true(
        becomes([&] { return count(bed.batch(LARDER_REMOTE_GET, 0, n_values, value_bytes), LARDER_OK) == n_values; }));
    cluster.wait_until_well({0, 1, 2, 3, 4, 5});
}

void late_reads_are_hedged(void**) {
    if (!with_replicas) return;
    RedisCluster& cluster = *with_replicas;
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", cluster.addresses()}, {"hedge_us", "5000"}}), LARDER_OK);
    assert_int_equal(count(bed.batch(LARDER_REMOTE_PUT, 0, n_values, value_bytes), LARDER_OK), n_values);
    for (size_t i = 0; i < 3; ++i) cluster[i].ask({"WAIT", "1", "2000"});
    cluster[0].pause();
    const auto got = bed.batch(LARDER_REMOTE_GET, 0, n_values, value_bytes, 5000 * ms);
    assert_int_equal(count(got, LARDER_OK), n_values);
    assert_true(bed.counters().n_hedges > 0);
    cluster[0].resume();
}

void a_dead_master_is_replaced_by_its_replica(void**) {
    if (!with_replicas) return;
    RedisCluster& cluster = *with_replicas;
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", cluster.addresses()}, {"backoff_ms", "20"}}), LARDER_OK);
    assert_int_equal(bed.counters().n_nodes, 6);
    assert_int_equal(count(bed.batch(LARDER_REMOTE_PUT, 0, n_values, value_bytes), LARDER_OK), n_values);
    for (size_t i = 0; i < 3; ++i) cluster[i].ask({"WAIT", "1", "2000"});
    cluster[1].kill();
    // Reads go to the replica at once; nobody has elected it yet.
    const auto got = bed.batch(LARDER_REMOTE_GET, 0, n_values, value_bytes);
    assert_int_equal(count(got, LARDER_OK), n_values);
    assert_int_equal(count(bed.batch(LARDER_REMOTE_EXISTS, 0, n_values, 0), LARDER_OK), n_values);
    // Writes wait for the election.
    assert_true(becomes(
        [&] { return count(bed.batch(LARDER_REMOTE_PUT, 100, n_values, value_bytes), LARDER_OK) == n_values; }));
    assert_int_equal(count(bed.batch(LARDER_REMOTE_GET, 100, n_values, value_bytes), LARDER_OK), n_values);
    assert_int_equal(count(bed.batch(LARDER_REMOTE_GET, 0, n_values, value_bytes), LARDER_OK), n_values);
}

int start_cluster(void**) {
    if (!have_redis_server()) return 0;
    masters_only = new RedisCluster(6, 0);
    with_replicas = new RedisCluster(3, 1);
    return 0;
}
int stop_cluster(void**) {
    delete masters_only;
    delete with_replicas;
    return 0;
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(runs_through_the_suite),
        cmocka_unit_test(a_batch_is_one_round_trip_to_each_node),
        cmocka_unit_test(told_that_it_stands_alone),
        cmocka_unit_test(slots_move_under_load),
        cmocka_unit_test(a_sleeping_node_costs_only_its_share),
        cmocka_unit_test(late_reads_are_hedged),
        cmocka_unit_test(a_dead_master_is_replaced_by_its_replica),
    };
    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
