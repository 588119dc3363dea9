// Where the servers are and how to talk to them: the name=value pairs of open().
#pragma once

#include "host.h"

namespace larder_redis {

enum class ClusterMode { by_asking, yes, no };

struct Settings {
    explicit Settings(const Host& h)
        : nodes(h), user(h), password(h), prefix("larder", h), tls_ca(h), tls_cert(h), tls_key(h), tls_name(h) {}
    larder_status read(const Host& host, const larder_remote_setting_v1* pairs, uint32_t n);

    Vec<Text> nodes;  // host:port, or the path of a Unix socket
    Text user, password;
    Text prefix;  // of all our keys
    ClusterMode cluster = ClusterMode::by_asking;
    uint32_t protocol = 3;
    bool replicas = true;  // reads may go to replicas
    bool tls = false;
    Text tls_ca, tls_cert, tls_key, tls_name;
    uint64_t part_bytes = 1 << 20;
    uint64_t window_bytes = 4 << 20;  // of answers asked of one connection and not here yet
    uint64_t connections = 4;         // kept to a node while idle
    uint64_t connect_timeout_ns = 1000000000;
    uint64_t patience_ns = 10000000;  // so long may a node be silent before it counts as down
    uint64_t backoff_ns = 100000000, max_backoff_ns = 5000000000;
    uint64_t hedge_ns = 0;  // a read that has not begun to be answered goes to a replica as well; 0: never
};

}  // namespace larder_redis
