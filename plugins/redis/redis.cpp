#include "redis.h"

#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace larder_redis {

namespace {

constexpr uint32_t max_nodes = 2048;
constexpr size_t max_topology_bytes = 4 << 20;
constexpr uint64_t second = 1000000000;
constexpr uint64_t least_topology_gap = second / 10, most_topology_gap = 10 * second;

using Lock = std::lock_guard<std::mutex>;

}  // namespace

larder_status Redis::open(const larder_remote_setting_v1* pairs, uint32_t n) {
    if (const larder_status s = settings.read(host, pairs, n); s < 0) return s;
    if (settings.tls)
        if (const larder_status s = tls.open(host, settings); s < 0) return s;
    for (const Text& name : settings.nodes) {
        const uint32_t i = find_or_add(name);
        if (i == no_node) return LARDER_E_INVALID;
    }
    cluster_ = settings.cluster == ClusterMode::yes;
    nodes_[0]->listed = true;
    // What will not mend by itself is told now; everything else may still come.
    const uint64_t deadline = later(now_ns(host), settings.connect_timeout_ns);
    for (uint32_t i = 0; i < settings.nodes.size() && i < nodes_.size(); ++i) {
        const larder_status s = meet_seed(i, deadline);
        if (s == LARDER_OK) return s;
        if (s == LARDER_E_PERMISSION || s == LARDER_E_VERSION || s == LARDER_E_INVALID || s == LARDER_E_NOMEM) return s;
        const Lock lock(mutex_);
        set_down(*nodes_[i], s, now_ns(host));
    }
    topology_wanted_ = settings.cluster != ClusterMode::no;
    attention_ = true;
    return LARDER_OK;
}

// Connects and, unless told that it stands alone, asks for the cluster.
larder_status Redis::meet_seed(uint32_t node, uint64_t deadline_ns) {
    topology_node_ = node;
    if (const larder_status s = connect(node, topology_connection_); s < 0) return s;
    larder_status s;
    for (;;) {
        s = topology_connection_->advance();
        if (s == LARDER_OK && settings.cluster == ClusterMode::no) break;
        if (s == LARDER_OK) s = read_topology();
        if (s != LARDER_PENDING) break;
        const uint64_t now = now_ns(host);
        if (now >= deadline_ns) {
            s = fail(host, LARDER_E_TIMEOUT, 0, "the server does not answer");
            break;
        }
        pollfd p{topology_connection_->fd(), topology_connection_->events(), 0};
        ::poll(&p, 1, int((deadline_ns - now) / 1000000 + 1));
    }
    if (s == LARDER_OK && topology_connection_->clean()) {
        for (uint32_t i = 0; i < n_slots && !is_cluster(); ++i) map_[i] = uint16_t(node);
        nodes_[0]->listed = nodes_[0]->listed && (is_cluster() || node == 0);
        if (!is_cluster()) nodes_[node]->listed = true;
        // One that was made before the cluster was known did not say READONLY.
        if (!is_cluster() || settings.cluster == ClusterMode::yes)
            nodes_[node]->idle.push_back(std::move(topology_connection_));
    }
    topology_connection_.reset();
    return s;
}

uint32_t Redis::find_or_add(std::string_view name) {
    for (uint32_t i = 0; i < nodes_.size(); ++i)
        if (nodes_[i]->name == name) return i;
    if (nodes_.size() >= max_nodes) return no_node;
    auto n = make<Node>(host, host, name);
    if (Address::resolve(host, name, n->address) < 0) return no_node;
    nodes_.push_back(std::move(n));
    return uint32_t(nodes_.size() - 1);
}

uint32_t Redis::node_of(uint32_t slot) {
    const Lock lock(mutex_);
    return map_[slot] == UINT16_MAX ? no_node : map_[slot];
}

uint32_t Redis::replica_of(uint32_t node) {
    const Lock lock(mutex_);
    if (!settings.replicas) return no_node;
    for (const uint32_t r : nodes_[node]->replicas)
        if (!nodes_[r]->down) return r;
    return no_node;
}

uint32_t Redis::redirected(uint32_t from, std::string_view address, uint32_t slot, bool for_good) {
    const Lock lock(mutex_);
    Text name(address, host);
    // A server that does not know its own address means: the same host.
    if (!name.empty() && name[0] == ':') {
        const Text& old = nodes_[from]->name;
        name.insert(0, old, 0, old.rfind(':'));
    }
    const uint32_t to = find_or_add(name);
    if (to == no_node) return to;
    cluster_ = settings.cluster != ClusterMode::no;
    if (for_good) {
        map_[slot] = uint16_t(to);
        nodes_[to]->listed = true;
        topology_wanted_ = true;
        attention_ = true;
    }
    return to;
}

larder_status Redis::connect(uint32_t node, Owned<Connection>& out) {
    out = make<Connection>(host, host);
    counters.connects.fetch_add(1, std::memory_order_relaxed);
    return out->start(nodes_[node]->address, settings, tls_or_none(), is_cluster());
}

larder_status Redis::take(uint32_t node, uint64_t now, Owned<Connection>& out, bool* out_reused) {
    const Lock lock(mutex_);
    Node& n = *nodes_[node];
    if (n.down) {
        if (now - n.last_wait_ns < second || n.why == LARDER_E_PERMISSION)
            return fail(host, n.why == LARDER_E_PERMISSION ? n.why : LARDER_E_PEER_DEAD, 0,
                        "a node does not answer and is not asked at present");
        n.last_wait_ns = now;
    }
    *out_reused = !n.idle.empty();
    if (*out_reused) {
        out = std::move(n.idle.back());
        n.idle.pop_back();
        return LARDER_OK;
    }
    return connect(node, out);
}

void Redis::give_back(uint32_t node, Owned<Connection> c) {
    const Lock lock(mutex_);
    Node& n = *nodes_[node];
    n.silent_ns = 0;
    if (n.down) set_up(n);
    if (!c->clean() || n.idle.size() >= settings.connections) return;
    try {
        n.idle.push_back(std::move(c));
    } catch (const std::bad_alloc&) {
        return;  // the next one connects anew
    }
}

larder_status Redis::reconnect(uint32_t node, Owned<Connection>& out) {
    const Lock lock(mutex_);
    nodes_[node]->idle.clear();  // as old as that one
    return connect(node, out);
}

void Redis::set_down(Node& n, larder_status why, uint64_t now) {
    n.idle.clear();
    n.why = why;
    n.last_wait_ns = now;
    n.silent_ns = 0;
    n.backoff_ns = n.down ? std::min(2 * n.backoff_ns, settings.max_backoff_ns) : settings.backoff_ns;
    n.next_probe_ns = now + n.backoff_ns;
    if (!n.down) ++n_down_;
    n.down = true;
    if (is_cluster()) topology_wanted_ = true;
    attention_ = true;
}

void Redis::set_up(Node& n) {
    n.down = false;
    n.why = LARDER_OK;
    n.silent_ns = 0;
    n.probe.reset();
    --n_down_;
}

void Redis::node_failed(uint32_t node, larder_status why, uint64_t now) {
    const Lock lock(mutex_);
    set_down(*nodes_[node], why, now);
}

void Redis::node_silent(uint32_t node, uint64_t waited_ns, uint64_t now) {
    counters.timeouts.fetch_add(1, std::memory_order_relaxed);
    const Lock lock(mutex_);
    Node& n = *nodes_[node];
    n.silent_ns += waited_ns;
    if (n.down || n.silent_ns >= settings.patience_ns) set_down(n, LARDER_E_TIMEOUT, now);
}

void Redis::learn_topology() {
    const Lock lock(mutex_);
    topology_wanted_ = true;
    attention_ = true;
}

void Redis::maintain(uint64_t now) {
    const bool look_again = now >= look_again_ns_.load(std::memory_order_relaxed);
    if (!look_again && !attention_.load(std::memory_order_relaxed)) return;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    topology_wanted_ |= look_again;
    try {
        if (n_down_)
            for (auto& n : nodes_)
                if (n->down) advance_probe(*n, now);
        if (topology_wanted_) advance_topology(now);
    } catch (const std::bad_alloc&) {
        topology_connection_.reset();  // another time
    }
    attention_ = n_down_ || topology_wanted_;
}

void Redis::advance_probe(Node& n, uint64_t now) {
    if (!n.probe) {
        if (now < n.next_probe_ns) return;
        n.probe = make<Connection>(host, host);
        n.probe_deadline_ns = now + settings.connect_timeout_ns;
        counters.connects.fetch_add(1, std::memory_order_relaxed);
        if (n.probe->start(n.address, settings, tls_or_none(), is_cluster()) < 0) n.probe_deadline_ns = 0;
    }
    const larder_status s = n.probe_deadline_ns ? n.probe->advance() : LARDER_E_PEER_DEAD;
    if (s == LARDER_OK) {
        Owned<Connection> c = std::move(n.probe);
        set_up(n);
        n.idle.push_back(std::move(c));
    } else if (s < 0 || now >= n.probe_deadline_ns) {
        n.probe.reset();
        if (s < 0) n.why = s;
        n.backoff_ns = std::min(2 * n.backoff_ns, settings.max_backoff_ns);
        n.next_probe_ns = now + n.backoff_ns;
    }
}

// Somebody who is up, in turns; when nobody is, anybody.
uint32_t Redis::whom_to_ask() {
    for (uint32_t i = 0; i < nodes_.size(); ++i) {
        const uint32_t k = (ask_next_ + i) % uint32_t(nodes_.size());
        if (nodes_[k]->down) continue;
        ask_next_ = k + 1;
        return k;
    }
    return ask_next_++ % uint32_t(nodes_.size());
}

void Redis::advance_topology(uint64_t now) {
    if (!topology_connection_) {
        if (now - topology_at_ns_ < least_topology_gap) return;
        topology_at_ns_ = now;
        topology_deadline_ns_ = now + settings.connect_timeout_ns;
        topology_node_ = whom_to_ask();
        Node& n = *nodes_[topology_node_];
        if (!n.idle.empty()) {
            topology_connection_ = std::move(n.idle.back());
            n.idle.pop_back();
        } else if (connect(topology_node_, topology_connection_) < 0) {
            topology_connection_.reset();
            return;
        }
    }
    larder_status s = topology_connection_->advance();
    if (s == LARDER_OK) s = read_topology();
    if (s == LARDER_PENDING && now < topology_deadline_ns_) return;
    if (s == LARDER_OK) {
        Node& n = *nodes_[topology_node_];
        if (topology_connection_->clean() && n.idle.size() < settings.connections)
            n.idle.push_back(std::move(topology_connection_));
        // A node that is down may be on its way to be replaced.
        const bool all_up = std::none_of(nodes_.begin(), nodes_.end(), [](auto& x) { return x->listed && x->down; });
        if (all_up) topology_wanted_ = false;
    }
    topology_connection_.reset();
    topology_asked_ = false;
    topology_.clear();
}

larder_status Redis::read_topology() {
    Connection& c = *topology_connection_;
    if (!topology_asked_) {
        topology_.clear();
        c.put_number('*', 2);
        c.put_argument("CLUSTER");
        c.put_argument("SLOTS");
        topology_asked_ = true;
    }
    if (!c.out_empty() && c.flush() == Io::closed)
        return fail(host, LARDER_E_PEER_DEAD, 0, "the server closed the connection");
    for (;;) {
        const std::string_view more = c.inbox();
        topology_.insert(topology_.end(), more.begin(), more.end());
        c.consume(more.size());
        size_t n = 0;
        const Parsed p = reply_length({topology_.data(), topology_.size()}, n);
        if (p == Parsed::bad || topology_.size() > max_topology_bytes || (p == Parsed::ok && n != topology_.size())) {
            counters.malformed.fetch_add(1, std::memory_order_relaxed);
            return fail(host, LARDER_E_VERSION, 0, "the server's answer to CLUSTER SLOTS makes no sense");
        }
        if (p == Parsed::ok) break;
        const Io io = c.fill();
        if (io == Io::blocked) return LARDER_PENDING;
        if (io == Io::closed) return fail(host, LARDER_E_PEER_DEAD, 0, "the server closed the connection");
    }
    topology_asked_ = false;
    const std::string_view reply(topology_.data(), topology_.size());
    if (reply[0] == '-') {
        // It stands alone, or may not say.
        if (settings.cluster == ClusterMode::yes)
            return fail(host, LARDER_E_INVALID, 0, "the setting 'cluster' is yes, but the server is not part of one");
        return LARDER_OK;
    }
    return apply_topology(reply)
               ? LARDER_OK
               : fail(host, LARDER_E_VERSION, 0, "the server's answer to CLUSTER SLOTS makes no sense");
}

bool Redis::apply_topology(std::string_view reply) {
    // Once to see that it holds, and once to do it.
    for (const bool apply : {false, true}) {
        ReplyWalker w(reply);
        const uint64_t n_ranges = w.array();
        if (n_ranges == 0) return w.ok();  // a cluster without slots: as before
        if (apply) {
            for (auto& n : nodes_) {
                n->listed = false;
                n->replicas.clear();
            }
            std::fill(map_, map_ + n_slots, UINT16_MAX);
        }
        for (uint64_t i = 0; i < n_ranges && w.ok(); ++i) {
            const uint64_t n_fields = w.array();
            const int64_t first = w.integer(), last = w.integer();
            if (!w.ok() || n_fields < 3 || first < 0 || last < first || last >= n_slots) return false;
            uint32_t master = no_node;
            for (uint64_t k = 2; k < n_fields && w.ok(); ++k) {
                const uint64_t n_facts = w.array();
                const std::string_view ip = w.string();
                const int64_t port = w.integer();
                for (uint64_t f = 2; f < n_facts && w.ok(); ++f) w.skip();
                if (!w.ok() || n_facts < 2 || port < 1 || port > 65535 || ip.size() > 255) return false;
                if (!apply) continue;
                Text name(host);
                const Text& asked = nodes_[topology_node_]->name;
                if (ip.empty() || ip == "?")
                    name.assign(asked, 0, asked.rfind(':'));
                else if (ip.find(':') != std::string_view::npos)
                    name.append("[").append(ip).append("]");
                else
                    name.assign(ip);
                char digits[24];
                std::snprintf(digits, sizeof digits, ":%d", int(port));
                name += digits;
                const uint32_t node = find_or_add(name);
                if (node == no_node) continue;
                nodes_[node]->listed = true;
                if (k == 2) {
                    master = node;
                    std::fill(map_ + first, map_ + last + 1, uint16_t(node));
                } else if (master != no_node) {
                    auto& r = nodes_[master]->replicas;
                    if (std::find(r.begin(), r.end(), node) == r.end()) r.push_back(node);
                }
            }
        }
        if (!w.ok()) return false;
    }
    look_again_ns_ = now_ns(host) + most_topology_gap;
    cluster_ = true;
    return true;
}

void Redis::read_counters(larder_remote_counters_v1& out) {
    const uint32_t size = out.struct_size;
    out = {};
    out.struct_size = size;
    maintain(now_ns(host));
    {
        const Lock lock(mutex_);
        for (const auto& n : nodes_) {
            if (!n->listed) continue;
            ++out.n_nodes;
            if (!n->down) continue;
            ++out.n_nodes_down;
            out.health = n->why;
        }
    }
    if (out.n_nodes_down && out.n_nodes_down < out.n_nodes) out.health = LARDER_PARTIAL;
    out.n_commands = counters.commands;
    out.n_round_trips = counters.round_trips;
    out.n_timeouts = counters.timeouts;
    out.n_connects = counters.connects;
    out.n_redirects = counters.redirects;
    out.n_hedges = counters.hedges;
    out.n_malformed = counters.malformed;
    out.n_foreign = counters.foreign;
    out.n_refused = counters.refused;
    out.sent_bytes = counters.sent_bytes;
    out.received_bytes = counters.received_bytes;
}

}  // namespace larder_redis
