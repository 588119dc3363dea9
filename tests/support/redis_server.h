// redis-server processes for tests, on loopback and ports of their own, in directories of their own; and a plain
// client.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "support/temp_dir.h"

// One connection that waits for each answer. An error's text begins with '-'; a null is "(null)".
class RedisClient {
  public:
    explicit RedisClient(int port);
    ~RedisClient();
    RedisClient(const RedisClient&) = delete;
    bool connected() const { return fd_ >= 0; }
    std::string ask(const std::vector<std::string>& command);

  private:
    std::string line();
    std::string reply();
    int fd_ = -1;
    std::string in_;
};

// Whether there is a redis-server to start; says so when not.
bool have_redis_server();

class RedisServer {
  public:
    // Further arguments of the program. `port` 0: any. Aborts when it does not come up.
    explicit RedisServer(std::vector<std::string> arguments = {}, int port = 0);
    ~RedisServer();
    RedisServer(const RedisServer&) = delete;

    int port() const { return port_; }
    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    std::string ask(const std::vector<std::string>& command) { return RedisClient(port_).ask(command); }
    void kill();   // as a crash would
    void pause();  // SIGSTOP
    void resume();
    void start();  // after kill(): empty

  private:
    TempDir dir_;
    std::vector<std::string> arguments_;
    int port_ = 0, pid_ = -1;
};

// `n_masters` masters that share the slots evenly, each with `n_replicas` replicas.
class RedisCluster {
  public:
    RedisCluster(int n_masters, int n_replicas);
    RedisServer& operator[](size_t i) { return *servers_[i]; }  // masters first
    size_t size() const { return servers_.size(); }
    std::string addresses() const;
    // Waits until all that are asked say that the cluster is well.
    void wait_until_well(const std::vector<size_t>& who);
    std::string id(size_t i) { return servers_[i]->ask({"CLUSTER", "MYID"}); }

  private:
    std::vector<std::unique_ptr<RedisServer>> servers_;
};
