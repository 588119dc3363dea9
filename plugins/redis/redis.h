// The servers behind one remote: which node has which slot, who answers, and connections that wait for work.
//
// A node that failed, or was silent for too long, is down. Requests do not wait for it then: they are refused at once,
// except that once in a second one of them may try, within its own time. Meanwhile whoever comes by advances a
// connection to it that nobody waits for; when that one is through, the node is up again.
#pragma once

#include <atomic>
#include <mutex>

#include "connection.h"

namespace larder_redis {

struct Node {
    Node(const Host& h, std::string_view n) : name(n, h), idle(h), replicas(h) {}
    Text name;  // host:port
    Address address;
    Vec<Owned<Connection>> idle;
    Vec<uint32_t> replicas;  // nodes
    bool listed = false;     // part of the cluster as it was told last
    bool down = false;
    larder_status why = LARDER_OK;
    uint64_t silent_ns = 0;     // waited for it since it said something
    uint64_t last_wait_ns = 0;  // when somebody waited for it in vain
    uint64_t next_probe_ns = 0, backoff_ns = 0, probe_deadline_ns = 0;
    Owned<Connection> probe;
};

constexpr uint32_t no_node = UINT32_MAX;

struct Counters {
    std::atomic<uint64_t> commands{0}, round_trips{0}, timeouts{0}, connects{0}, redirects{0}, hedges{0}, malformed{0},
        foreign{0}, refused{0}, sent_bytes{0}, received_bytes{0};
};

class Redis {
  public:
    static constexpr uint64_t max_value_bytes = 256 << 20;
    static constexpr uint32_t max_items = 65536;

    explicit Redis(const Host& h) : host(h), settings(h), nodes_(h), topology_(h) {}
    larder_status open(const larder_remote_setting_v1* pairs, uint32_t n);
    void read_counters(larder_remote_counters_v1& out);

    // --- for requests; internally synchronised ---------------------------------------------------------------------
    bool is_cluster() const noexcept { return cluster_.load(std::memory_order_relaxed); }
    uint32_t node_of(uint32_t slot);
    // A node that has the same values as this one, preferably one that is up; no_node: there is none.
    uint32_t replica_of(uint32_t node);
    // What a server said in MOVED or ASK. no_node: that makes no sense.
    uint32_t redirected(uint32_t from, std::string_view address, uint32_t slot, bool for_good);
    // A connection: one that is idle (*out_reused), or a new one on its way. Refused (PEER_DEAD) while the node is
    // down.
    larder_status take(uint32_t node, uint64_t now, Owned<Connection>& out, bool* out_reused);
    // A new one in the place of one that was idle for too long.
    larder_status reconnect(uint32_t node, Owned<Connection>& out);
    void give_back(uint32_t node, Owned<Connection> c);
    void node_failed(uint32_t node, larder_status why, uint64_t now);
    // Somebody waited that long for a node, which said nothing.
    void node_silent(uint32_t node, uint64_t waited_ns, uint64_t now);
    void learn_topology();
    // Whatever nobody waits for.
    void maintain(uint64_t now);

    const Host& host;
    Settings settings;
    TlsContext tls;
    Counters counters;

  private:
    const TlsContext* tls_or_none() const noexcept { return settings.tls ? &tls : nullptr; }
    larder_status connect(uint32_t node, Owned<Connection>& out);
    uint32_t find_or_add(std::string_view name);
    void set_down(Node& n, larder_status why, uint64_t now);
    void set_up(Node& n);
    void advance_probe(Node& n, uint64_t now);
    void advance_topology(uint64_t now);
    uint32_t whom_to_ask();
    // PENDING, OK (applied, or the server stands alone), or why not.
    larder_status read_topology();
    bool apply_topology(std::string_view reply);
    larder_status meet_seed(uint32_t node, uint64_t deadline_ns);

    std::mutex mutex_;
    Vec<Owned<Node>> nodes_;
    std::atomic<bool> cluster_{false};
    std::atomic<bool> attention_{false};          // maintain() has something to do
    std::atomic<uint64_t> look_again_ns_{never};  // a cluster changes without our noticing: new replicas, for one
    uint32_t n_down_ = 0;
    bool topology_wanted_ = false;
    uint64_t topology_at_ns_ = 0, topology_deadline_ns_ = 0;
    Owned<Connection> topology_connection_;
    uint32_t topology_node_ = 0;
    bool topology_asked_ = false;
    Vec<char> topology_;  // what was answered so far
    uint32_t ask_next_ = 0;
    uint16_t map_[n_slots] = {};
};

}  // namespace larder_redis
