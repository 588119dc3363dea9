#include "support/redis_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

namespace {

using namespace std::chrono_literals;

int loopback_socket(int port, bool listen_there) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(uint16_t(port));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto address = reinterpret_cast<sockaddr*>(&a);
    const int r = listen_there ? ::bind(fd, address, sizeof a) : ::connect(fd, address, sizeof a);
    if (r == 0) return fd;
    ::close(fd);
    return -1;
}

bool is_free(int port) {
    const int fd = loopback_socket(port, true);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
}

// A cluster's nodes talk to each other at the port that is 10000 higher.
int free_port() {
    static std::mt19937 rng{std::random_device()()};
    for (;;) {
        const int port = 15000 + int(rng() % 17000);
        if (is_free(port) && is_free(port + 10000)) return port;
    }
}

[[noreturn]] void give_up(const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

}  // namespace

RedisClient::RedisClient(int port) : fd_(loopback_socket(port, false)) {
    if (fd_ < 0) return;
    const timeval t{10, 0};
    const int on = 1;
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

RedisClient::~RedisClient() {
    if (fd_ >= 0) ::close(fd_);
}

std::string RedisClient::line() {
    for (;;) {
        const size_t end = in_.find("\r\n");
        if (end != std::string::npos) {
            const std::string l = in_.substr(0, end);
            in_.erase(0, end + 2);
            return l;
        }
        char buffer[65536];
        const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
        if (n <= 0) return "-gone";
        in_.append(buffer, size_t(n));
    }
}

std::string RedisClient::reply() {
    const std::string l = line();
    if (l.empty() || l[0] == '-') return l;
    if (l[0] == '$') {
        const long n = std::atol(l.c_str() + 1);
        if (n < 0) return "(null)";
        while (in_.size() < size_t(n) + 2) {
            char buffer[65536];
            const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
            if (got <= 0) return "-gone";
            in_.append(buffer, size_t(got));
        }
        const std::string s = in_.substr(0, size_t(n));
        in_.erase(0, size_t(n) + 2);
        return s;
    }
    if (l[0] != '*') return l.substr(1);
    std::string all;
    for (long n = std::atol(l.c_str() + 1); n > 0; --n) all += reply() + "\n";
    return all;
}

std::string RedisClient::ask(const std::vector<std::string>& command) {
    if (fd_ < 0) return "-gone";
    std::string out = "*" + std::to_string(command.size()) + "\r\n";
    for (const std::string& s : command) out += "$" + std::to_string(s.size()) + "\r\n" + s + "\r\n";
    for (size_t at = 0; at < out.size();) {
        const ssize_t n = ::send(fd_, out.data() + at, out.size() - at, MSG_NOSIGNAL);
        if (n <= 0) return "-gone";
        at += size_t(n);
    }
    return reply();
}

bool have_redis_server() {
    const char* path = std::getenv("PATH");
    for (std::string left = path ? path : ""; !left.empty();) {
        const size_t n = std::min(left.find(':'), left.size());
        if (::access((left.substr(0, n) + "/redis-server").c_str(), X_OK) == 0) return true;
        left.erase(0, n + 1);
    }
    std::printf("SKIPPED: redis-server is not installed\n");
    return false;
}

RedisServer::RedisServer(std::vector<std::string> arguments, int port)
    : arguments_(std::move(arguments)), port_(port ? port : free_port()) {
    start();
}

RedisServer::~RedisServer() {
    resume();
    kill();
}

void RedisServer::start() {
    std::vector<std::string> all{"redis-server",
                                 "--port",
                                 std::to_string(port_),
                                 "--bind",
                                 "127.0.0.1",
                                 "--save",
                                 "",
                                 "--appendonly",
                                 "no",
                                 "--dir",
                                 dir_.path(),
                                 "--daemonize",
                                 "no",
                                 "--enable-debug-command",
                                 "yes"};
    all.insert(all.end(), arguments_.begin(), arguments_.end());
    std::vector<char*> argv;
    for (std::string& s : all) argv.push_back(s.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that fails leaves nobody behind
        const int null = ::open("/dev/null", O_RDWR);
        ::dup2(null, 0);
        ::dup2(null, 1);
        ::dup2(null, 2);
        ::execvp(argv[0], argv.data());
        ::_exit(127);
    }
    for (int i = 0; i < 500; ++i) {
        RedisClient client(port_);
        if (client.connected() && client.ask({"PING"}) != "-gone") return;
        std::this_thread::sleep_for(20ms);
    }
    give_up("redis-server does not come up");
}

void RedisServer::kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

void RedisServer::pause() {
    if (pid_ > 0) ::kill(pid_, SIGSTOP);
}

void RedisServer::resume() {
    if (pid_ > 0) ::kill(pid_, SIGCONT);
}

RedisCluster::RedisCluster(int n_masters, int n_replicas) {
    const int n = n_masters * (1 + n_replicas);
    for (int i = 0; i < n; ++i)
        servers_.push_back(std::make_unique<RedisServer>(std::vector<std::string>{
            "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"}));
    std::vector<size_t> all;
    for (int i = 0; i < n; ++i) {
        RedisServer& s = *servers_[size_t(i)];
        all.push_back(size_t(i));
        s.ask({"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)});
        if (i < n_masters)
            s.ask({"CLUSTER", "ADDSLOTSRANGE", std::to_string(16384 * i / n_masters),
                   std::to_string(16384 * (i + 1) / n_masters - 1)});
        if (i) s.ask({"CLUSTER", "MEET", "127.0.0.1", std::to_string(servers_[0]->port())});
    }
    wait_until_well(all);
    for (int i = n_masters; i < n; ++i) {
        const std::string master = id(size_t(i % n_masters));
        for (int tries = 0; servers_[size_t(i)]->ask({"CLUSTER", "REPLICATE", master}) != "OK"; ++tries) {
            if (tries > 500) give_up("a replica does not find its master");
            std::this_thread::sleep_for(20ms);
        }
    }
    for (int i = n_masters; i < n; ++i)
        for (int tries = 0;
             servers_[size_t(i)]->ask({"INFO", "replication"}).find("master_link_status:up") == std::string::npos;
             ++tries) {
            if (tries > 500) give_up("a replica does not follow its master");
            std::this_thread::sleep_for(20ms);
        }
    // A replica is told of once it has something from its master, and once word of that has gone round.
    for (int i = 0; i < n_masters && n_replicas; ++i) {
        int k = 0;
        while (servers_[size_t(i)]->ask({"SET", "x" + std::to_string(k), "1"}) != "OK") ++k;
        servers_[size_t(i)]->ask({"DEL", "x" + std::to_string(k)});
    }
    for (const auto& s : servers_)
        for (const auto& other : servers_)
            for (int tries = 0; s->ask({"CLUSTER", "SLOTS"}).find(std::to_string(other->port())) == std::string::npos;
                 ++tries) {
                if (tries > 1000) give_up("a node is not told of");
                std::this_thread::sleep_for(20ms);
            }
}

std::string RedisCluster::addresses() const {
    std::string all;
    for (const auto& s : servers_) all += (all.empty() ? "" : ",") + s->address();
    return all;
}

void RedisCluster::wait_until_well(const std::vector<size_t>& who) {
    for (const size_t i : who)
        for (int tries = 0; servers_[i]->ask({"CLUSTER", "INFO"}).find("cluster_state:ok") == std::string::npos ||
                            servers_[i]->ask({"CLUSTER", "INFO"}).find("cluster_slots_ok:16384") == std::string::npos;
             ++tries) {
            if (tries > 1000) give_up("the cluster does not become well");
            std::this_thread::sleep_for(20ms);
        }
}
