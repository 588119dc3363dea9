// The Redis plug-in against what lies between it and a good server: servers that lie, lines that are cut, certificates
// that do not hold, memory that runs out.
#include "support/cmocka.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "support/redis_server.h"
#include "support/remote_bed.h"
#include "support/seed.h"

namespace {

constexpr uint64_t ms = RemoteBed::ms;

// Accepts connections on a port of its own and gives each to a function on a thread of its own.
class Listener {
  public:
    explicit Listener(std::function<void(int)> serve) : serve_(std::move(serve)) {
        fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t n = sizeof a;
        assert_int_equal(::bind(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
        assert_int_equal(::listen(fd_, 16), 0);
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &n);
        port_ = ntohs(a.sin_port);
        thread_ = std::thread([this] {
            std::vector<std::thread> all;
            while (!stop_) {
                pollfd p{fd_, POLLIN, 0};
                if (::poll(&p, 1, 10) <= 0) continue;
                const int c = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
                if (c < 0) continue;
                all.emplace_back([this, c] {
                    serve_(c);
                    ::close(c);
                });
            }
            for (std::thread& t : all) t.join();
        });
    }
    ~Listener() {
        stop_ = true;
        thread_.join();
        ::close(fd_);
    }
    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    bool stopping() const { return stop_; }

  private:
    std::function<void(int)> serve_;
    int fd_ = -1, port_ = 0;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

bool send_all(int fd, std::string_view s) {
    while (!s.empty()) {
        const ssize_t n = ::send(fd, s.data(), s.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        s.remove_prefix(size_t(n));
    }
    return true;
}

// A server that greets like one and answers every command for data with the same bytes.
class Liar {
  public:
    explicit Liar(std::string answer, bool then_close = false)
        : answer_(std::move(answer)), close_(then_close), listener_([this](int fd) { serve(fd); }) {}
    std::string address() const { return listener_.address(); }

  private:
    void serve(int fd) {
        std::string in;
        char buffer[65536];
        while (!stopping()) {
            pollfd p{fd, POLLIN, 0};
            if (::poll(&p, 1, 10) == 0) continue;
            const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
            if (n <= 0) return;
            in.append(buffer, size_t(n));
            // Commands of the greeting are short and come whole.
            for (size_t at; (at = in.find("\r\n")) != std::string::npos;) {
                const std::string line = in.substr(0, at);
                in.erase(0, at + 2);
                if (line == "HELLO") send_all(fd, "*2\r\n+proto\r\n:3\r\n");
                if (line == "PING") send_all(fd, "+PONG\r\n");
                if (line == "CLUSTER") send_all(fd, "-ERR This instance has cluster support disabled\r\n");
                if (line != "GETRANGE" && line != "SET" && line != "EXISTS" && line != "UNLINK") continue;
                if (!send_all(fd, answer_) || close_) return;
            }
        }
    }
    bool stopping() const { return listener_.stopping(); }
    std::string answer_;
    bool close_;
    Listener listener_;
};

void servers_that_lie(void**) {
    const std::string head("LDR1\0\0\x10\0\x50\xc3\0\0\0\0\0\0", 16);  // 50000 bytes, as they should be
    const std::string right = "$50016\r\n" + head;
    const struct {
        std::string answer;
        bool then_close;
    } rows[] = {
        {"", true},
        {"\r\n", false},
        {"HTTP/1.1 400 Bad Request\r\n\r\n", false},
        {std::string(100000, 'x'), false},
        {"$" + std::string(100000, '1'), false},
        {"$99999999999\r\n", false},
        {"$-7\r\n", false},
        {"$50017\r\n" + std::string(50017, 'x') + "\r\n", false},
        {"$17\r\n" + std::string(17, 'x') + "\r\n", false},
        {right + std::string(50000, 'x') + "XX", false},
        {right + std::string(49999, 'x'), true},
        {right, true},
        {"*3\r\n:1\r\n:2\r\n:3\r\n", false},
        {"*1000000000\r\n", false},
        {":12345\r\n", false},
        {"+OK\r\n+OK\r\n", false},
        {"%1\r\n+a\r\n+b\r\n", false},
        {">2\r\n+message\r\n+x\r\n", false},
        {"-ERR what\r\n", false},
        {"-LOADING Redis is loading the dataset in memory\r\n", false},
        {"-MOVED 99999 127.0.0.1:1\r\n", false},
        {"-MOVED x\r\n", false},
        {"-ASK 5 nowhere\r\n", false},
        {"-MOVED 5 127.0.0.1:1\r\n", false},
        {std::string(5, '\0'), false},
    };
    for (const auto& row : rows) {
        Liar liar(row.answer, row.then_close);
        RemoteBed bed;
        assert_int_equal(bed.open({{"nodes", liar.address()}}), LARDER_OK);
        const uint64_t begin = bed.now();
        for (int i = 0; i < 3; ++i) {
            std::vector<unsigned char> room(50000);
            larder_remote_piece_v1 piece{room.data(), room.size()};
            larder_remote_item_v1 item{RemoteBed::key(1), &piece, 1, 0, 0, 0};
            assert_int_equal(bed.remote->run(LARDER_REMOTE_GET, {&item, 1}, 0, 200 * ms), LARDER_OK);
            assert_int_not_equal(item.status, LARDER_OK);
        }
        assert_true(bed.now() - begin < 3000 * ms);
    }
    // The right answer, for once.
    Liar honest(right + std::string(50000, 'x') + "\r\n");
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", honest.address()}}), LARDER_OK);
    std::vector<unsigned char> room(50000);
    larder_remote_piece_v1 piece{room.data(), room.size()};
    larder_remote_item_v1 item{RemoteBed::key(1), &piece, 1, 0, 0, 0};
    assert_int_equal(bed.remote->run(LARDER_REMOTE_GET, {&item, 1}, 0, 2000 * ms), LARDER_OK);
    assert_int_equal(item.status, LARDER_OK);
    assert_int_equal(room[49999], 'x');
}

void what_does_not_speak_the_protocol_is_told_at_open(void**) {
    for (const char* greeting : {"SSH-2.0-OpenSSH_9.2\r\n", "220 mail\r\n", "\x16\x03\x01\r\n"}) {
        Listener other([&](int fd) {
            send_all(fd, greeting);
            char c;
            while (::recv(fd, &c, 1, 0) > 0) {
            }
        });
        RemoteBed bed;
        assert_int_equal(bed.open({{"nodes", other.address()}}), LARDER_E_VERSION);
    }
    // From before HELLO.
    Listener old([](int fd) {
        char buffer[4096];
        for (ssize_t n; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
            const std::string_view in(buffer, size_t(n));
            if (in.find("HELLO") != in.npos) send_all(fd, "-ERR unknown command 'HELLO'\r\n");
            if (in.find("PING") != in.npos) send_all(fd, "+PONG\r\n");
            if (in.find("CLUSTER") != in.npos) send_all(fd, "-ERR unknown command 'CLUSTER'\r\n");
            if (in.find("EXISTS") != in.npos) send_all(fd, ":1\r\n");
        }
    });
    RemoteBed bed;
    assert_int_equal(bed.open({{"nodes", old.address()}}), LARDER_OK);
    assert_int_equal(bed.batch(LARDER_REMOTE_EXISTS, 1, 1, 0)[0], LARDER_OK);
}

// Between plug-in and server: cuts lines, holds bytes back, and lets most pass. It never changes a byte: what does is
// for the store's checksums (unit_test_store_remote).
class Cutter {
  public:
    Cutter(int port, uint64_t seed) : port_(port), rng_(seed), listener_([this](int fd) { serve(fd); }) {}
    std::string address() const { return listener_.address(); }
    std::atomic<bool> calm{false};

  private:
    uint64_t roll(uint64_t n) {
        const std::lock_guard lock(mutex_);
        return rng_() % n;
    }
    void serve(int from) {
        const int to = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_port = htons(uint16_t(port_));
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        bool open = ::connect(to, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
        std::vector<char> buffer(1 << 16);
        while (open && !listener_.stopping()) {
            pollfd p[2] = {{from, POLLIN, 0}, {to, POLLIN, 0}};
            if (::poll(p, 2, 10) == 0) continue;
            for (int i = 0; i < 2 && open; ++i) {
                if (!p[i].revents) continue;
                const ssize_t n = ::recv(p[i].fd, buffer.data(), 1 + roll(buffer.size()), 0);
                open = n > 0;
                if (!open) break;
                size_t pass = size_t(n);
                const uint64_t fate = calm ? 1000 : roll(1000);
                if (fate < 3) pass = roll(pass), open = false;
                if (fate >= 3 && fate < 6) std::this_thread::sleep_for(std::chrono::milliseconds(roll(60)));
                open &= send_all(p[1 - i].fd, {buffer.data(), pass});
            }
        }
        ::close(to);
    }
    const int port_;
    std::mutex mutex_;
    std::mt19937_64 rng_;
    Listener listener_;
};

void lines_that_are_cut(void**) {
    if (!have_redis_server()) return;
    RedisServer server;
    const uint64_t seed = test_seed();
    Cutter cutter(server.port(), seed);
    RemoteBed bed;
    cutter.calm = true;
    assert_int_equal(bed.open({{"nodes", cutter.address()}, {"backoff_ms", "1"}, {"part_bytes", "262144"}}), LARDER_OK);
    cutter.calm = false;
    std::mt19937_64 rng(seed + 1);
    uint64_t n_ok = 0, n_other = 0;
    const uint64_t rounds = test_rounds(1200);
    for (uint64_t i = 0; i < rounds; ++i) {
        const uint64_t first = rng() % 40;
        const uint32_t n = 1 + uint32_t(rng() % 8);
        const uint32_t op = std::vector<uint32_t>{LARDER_REMOTE_PUT, LARDER_REMOTE_GET, LARDER_REMOTE_GET,
                                                  LARDER_REMOTE_EXISTS, LARDER_REMOTE_REMOVE}[rng() % 5];
        // Sizes belong to keys, so that a value that comes back can be told; batch() asserts that it is right.
        const size_t n_bytes = first % 5 ? 3000 : 600000;
        const uint64_t base = (first % 5 ? 1000 : 2000) + first;
        for (const larder_status s : bed.batch(op, base, n, n_bytes, 30 * ms)) {
            n_ok += s == LARDER_OK || s == LARDER_MISS;
            n_other += s < 0;
            assert_true(s == LARDER_OK || s == LARDER_MISS || s == LARDER_E_TIMEOUT || s == LARDER_E_PEER_DEAD ||
                        s == LARDER_E_IO);
        }
    }
    print_message("%llu items answered, %llu not\n", (unsigned long long)n_ok, (unsigned long long)n_other);
    assert_true(n_ok > rounds / 4);
    // And all is well once the line is.
    cutter.calm = true;
    larder_status s = LARDER_E_IO;
    for (int i = 0; i < 500 && s != LARDER_OK; ++i) {
        s = bed.put(1, 600000);
        std::this_thread::sleep_for(std::chrono::milliseconds(s == LARDER_OK ? 0 : 10));
    }
    assert_int_equal(bed.get(1, 600000), LARDER_OK);
}

int shell(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str());
}

void tls(void**) {
    if (!have_redis_server()) return;
    if (shell("openssl version") != 0) {
        print_message("SKIPPED: openssl is not installed\n");
        return;
    }
    TempDir dir;
    const auto certificate = [&](const std::string& name, const std::string& how, const std::string& days) {
        const std::string key = dir.path(name + ".key"), request = dir.path(name + ".csr"),
                          out = dir.path(name + ".crt");
        return shell("openssl req -newkey rsa:2048 -nodes -keyout " + key + " -out " + request + " -subj /CN=" + name) +
               shell("openssl x509 -req -in " + request + " " + how + " -days " + days + " -out " + out);
    };
    assert_int_equal(certificate("authority", "-signkey " + dir.path("authority.key"), "10"), 0);
    assert_int_equal(certificate("stranger", "-signkey " + dir.path("stranger.key"), "10"), 0);
    const std::string by =
        "-CA " + dir.path("authority.crt") + " -CAkey " + dir.path("authority.key") + " -set_serial ";
    assert_int_equal(certificate("server", by + "1", "10"), 0);
    assert_int_equal(certificate("old", by + "2", "-1"), 0);
    assert_int_equal(certificate("client", by + "3", "10"), 0);
    const auto with = [&](const char* who) {
        return std::vector<std::string>{"--tls-port",         "0",
                                        "--tls-cert-file",    dir.path(std::string(who) + ".crt"),
                                        "--tls-key-file",     dir.path(std::string(who) + ".key"),
                                        "--tls-ca-cert-file", dir.path("authority.crt")};
    };
    // The plain port stays open beside it, for the test's own client.
    const auto start = [&](const char* who, const char* clients) {
        auto arguments = with(who);
        arguments.insert(arguments.end(), {"--tls-auth-clients", clients});
        auto server = std::make_unique<RedisServer>(arguments);
        for (int port = 20000 + server->port() % 10000;; ++port)
            if (server->ask({"CONFIG", "SET", "tls-port", std::to_string(port)}) == "OK")
                return std::pair{std::move(server), "127.0.0.1:" + std::to_string(port)};
    };
    RemoteBed bed;
    const std::pair<std::string, std::string> on{"tls", "yes"}, ca{"tls_ca", dir.path("authority.crt")},
        name{"tls_name", "server"};
    {
        const auto [server, address] = start("server", "no");
        const std::pair<std::string, std::string> where{"nodes", address};
        assert_int_equal(bed.open({where, on, ca, name}), LARDER_OK);
        for (const size_t n : {10ul, 300000ul, 3000000ul}) {
            assert_int_equal(bed.put(n, n), LARDER_OK);
            assert_int_equal(bed.get(n, n), LARDER_OK);
        }
        assert_int_equal(run_suite("nodes=" + address + " tls=yes tls_name=server tls_ca=" + ca.second), 0);
        assert_int_equal(bed.open({where, on, ca, {"tls_name", "other"}}), LARDER_E_PERMISSION);
        assert_int_equal(bed.open({where, on, {"tls_ca", dir.path("stranger.crt")}, name}), LARDER_E_PERMISSION);
        assert_int_equal(bed.open({where, on, {"tls_ca", dir.path("nothing.crt")}, name}), LARDER_E_INVALID);
        assert_int_equal(bed.open({where, on, ca}), LARDER_E_INVALID);
        // TLS against a plain port, and the other way about: no answer that makes sense, sooner or later.
        const std::pair<std::string, std::string> soon{"connect_timeout_ms", "300"}, plain{"nodes", server->address()};
        assert_true(bed.open({plain, on, ca, name, soon}) != LARDER_OK || bed.get(1, 10, 300 * ms) != LARDER_OK);
        assert_true(bed.open({where, soon}) != LARDER_OK || bed.get(1, 10, 300 * ms) != LARDER_OK);
    }
    {
        const auto [server, address] = start("old", "no");
        assert_int_equal(bed.open({{"nodes", address}, on, ca, {"tls_name", "old"}}), LARDER_E_PERMISSION);
        assert_non_null(std::strstr(larder::last_error().message, "expired"));
    }
    {
        const auto [server, address] = start("server", "yes");
        const std::pair<std::string, std::string> where{"nodes", address};
        assert_int_equal(
            bed.open({where, on, ca, name, {"tls_cert", dir.path("client.crt")}, {"tls_key", dir.path("client.key")}}),
            LARDER_OK);
        assert_int_equal(bed.put(1, 100000), LARDER_OK);
        assert_int_equal(bed.get(1, 100000), LARDER_OK);
        // The server may hang up before its reason arrives.
        const larder_status s = bed.open({where, on, ca, name});
        assert_true(s == LARDER_E_PERMISSION || (s == LARDER_OK && bed.get(1, 100000) < 0));
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(servers_that_lie),
        cmocka_unit_test(what_does_not_speak_the_protocol_is_told_at_open),
        cmocka_unit_test(lines_that_are_cut),
        cmocka_unit_test(tls),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
