// A context and a remote through a plug-in of this build, with values that can be told apart.
#pragma once

#include "support/cmocka.h"

#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "larder/larder.h"
#include "store/tiers/remote_plugin.h"

inline std::string built_library(const char* name) {
    const char* build = std::getenv("LARDER_BUILD_DIR");
    return std::string(build ? build : ".") + "/lib/" + name;
}

// The conformance suite over the Redis plug-in; its exit status.
inline int run_suite(const std::string& settings) {
    const char* build = std::getenv("LARDER_BUILD_DIR");
    const std::string program = std::string(build ? build : ".") + "/bin/larder-remote-conformance";
    return std::system((program + " " + built_library("liblarder-redis.so") + " " + settings).c_str());
}

struct RemoteBed {
    using Settings = std::vector<std::pair<std::string, std::string>>;
    static constexpr uint64_t ms = 1000000;

    RemoteBed() { assert_int_equal(larder_context::create(nullptr, larder::posix_os(), &context), LARDER_OK); }
    ~RemoteBed() {
        remote.reset();
        larder_context_destroy(context);
    }

    larder_status open(const Settings& settings, const char* plugin = "liblarder-redis.so") {
        std::vector<larder_remote_setting_v1> all;
        for (const auto& [name, value] : settings) all.push_back({name.c_str(), value.c_str()});
        auto r = larder::Remote::open(*context, built_library(plugin).c_str(), all);
        if (!r.ok()) return r.status();
        remote = std::move(*r);
        return LARDER_OK;
    }

    static larder_key key(uint64_t n) {
        larder_key k{};
        std::mt19937_64 rng(n * 2654435761u + 1);
        for (auto& b : k.bytes) b = uint8_t(rng());
        return k;
    }
    static std::vector<unsigned char> value(uint64_t n, size_t n_bytes) {
        std::vector<unsigned char> v(n_bytes);
        uint64_t x = n * 0x9e3779b97f4a7c15u + n_bytes;
        for (auto& b : v) b = uint8_t((x = x * 6364136223846793005u + 1442695040888963407u) >> 56);
        return v;
    }

    larder_status put(uint64_t n, size_t n_bytes, uint64_t timeout = 10000 * ms, uint32_t ttl_ms = 0) {
        auto v = value(n, n_bytes);
        larder_remote_piece_v1 piece{v.data(), v.size()};
        larder_remote_item_v1 item{key(n), &piece, 1, 0, 0, 0};
        const larder_status s = remote->run(LARDER_REMOTE_PUT, {&item, 1}, ttl_ms, timeout);
        return s < 0 ? s : item.status;
    }
    // OK is asserted to mean: the right bytes.
    larder_status get(uint64_t n, size_t n_bytes, uint64_t timeout = 10000 * ms) {
        std::vector<unsigned char> v(n_bytes);
        larder_remote_piece_v1 piece{v.data(), v.size()};
        larder_remote_item_v1 item{key(n), &piece, 1, 0, 0, 0};
        const larder_status s = remote->run(LARDER_REMOTE_GET, {&item, 1}, 0, timeout);
        if (s < 0 || item.status != LARDER_OK) return s < 0 ? s : item.status;
        assert_int_equal(item.n_bytes, n_bytes);
        assert_true(v == value(n, n_bytes));
        return LARDER_OK;
    }
    // Statuses of a batch over values first, first + 1 ...
    std::vector<larder_status> batch(uint32_t op, uint64_t first, uint32_t n, size_t n_bytes,
                                     uint64_t timeout = 10000 * ms) {
        std::vector<std::vector<unsigned char>> values(n);
        std::vector<larder_remote_piece_v1> pieces(n);
        std::vector<larder_remote_item_v1> items(n);
        const bool moves = op == LARDER_REMOTE_PUT || op == LARDER_REMOTE_GET;
        for (uint32_t i = 0; i < n; ++i) {
            if (moves)
                values[i] = op == LARDER_REMOTE_PUT ? value(first + i, n_bytes) : std::vector<unsigned char>(n_bytes);
            pieces[i] = {values[i].data(), values[i].size()};
            items[i] = {key(first + i), moves ? &pieces[i] : nullptr, moves ? 1u : 0u, 0, 0, 0};
        }
        std::vector<larder_status> all(n, LARDER_E_INTERNAL);
        if (remote->run(op, items, 0, timeout) < 0) return all;
        for (uint32_t i = 0; i < n; ++i) {
            all[i] = items[i].status;
            if (op == LARDER_REMOTE_GET && all[i] == LARDER_OK) assert_true(values[i] == value(first + i, n_bytes));
        }
        return all;
    }
    // The name under which the server has a part of a value.
    static std::string name(uint64_t n, int part = 0) {
        std::string s = "larder:";
        for (const uint8_t b : key(n).bytes) {
            char hex[3];
            std::snprintf(hex, sizeof hex, "%02x", b);
            s += hex;
        }
        return part ? s + ":" + std::to_string(part) : s;
    }
    larder_remote_counters_v1 counters() { return remote->counters(); }
    uint64_t now() { return context->os.now_ns(); }

    larder_context* context = nullptr;
    larder::Owned<larder::Remote> remote;
};
