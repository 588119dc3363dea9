#include "demo/conversation.h"

#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstring>
#include <sys/wait.h>
#include <type_traits>
#include <unistd.h>

#include "engine/error.h"
#include "engine/generate.h"

namespace demo {

namespace {

enum class Kind : uint32_t { opened, token, outcome, flushed, failed };

// What a child tells its parent through a pipe. Small enough to be written whole or not at all,
// even by a process that is being killed.
struct Message {
    Kind kind = Kind::token;
    uint32_t request = 0;
    uint64_t elapsed_ns = 0;
    Outcome outcome;
    Traffic traffic;
    char text[512] = {};
};
static_assert(std::is_trivially_copyable_v<Message> && sizeof(Message) <= PIPE_BUF);

using Clock = std::chrono::steady_clock;

uint64_t ns_since(Clock::time_point start) {
    return uint64_t(std::chrono::nanoseconds(Clock::now() - start).count());
}

// Bytes moved since the last call.
class TrafficMeter {
  public:
    explicit TrafficMeter(const LarderCache& cache) : cache_(cache), last_(cache.stats()) {}

    Traffic take() {
        const larder_stats now = cache_.stats();
        const Traffic t = {now.codec_encoded_bytes_in - last_.codec_encoded_bytes_in,
                           now.codec_encoded_bytes_out - last_.codec_encoded_bytes_out,
                           now.codec_decoded_bytes_out - last_.codec_decoded_bytes_out,
                           now.io_write_bytes - last_.io_write_bytes, now.io_read_bytes - last_.io_read_bytes};
        last_ = now;
        return t;
    }

  private:
    const LarderCache& cache_;
    larder_stats last_;
};

// Lives in the child process: answers requests one after the other and reports each.
class Worker {
  public:
    Worker(const engine::Model& model, const Scenario& scenario, const CacheOptions& options,
           std::vector<Outcome> before, int pipe)
        : scenario_(scenario), outcomes_(std::move(before)), pipe_(pipe), decoder_(model), plain_(model.shape),
          opened_(Clock::now()), cache_(model, options), meter_(cache_) {}

    void run() {
        Message opened;
        opened.kind = Kind::opened;
        opened.elapsed_ns = ns_since(opened_);
        send(opened);
        // So that no request pays for the first touch of weights and buffers.
        engine::generate(decoder_, plain_, scenario_.documents[0], 1);
        for (uint32_t request = uint32_t(outcomes_.size()); request < n_requests; ++request) {
            outcomes_.push_back(answer(request));
            Message m;
            m.kind = Kind::outcome;
            m.request = request;
            m.outcome = outcomes_.back();
            send(m);
            if ((request + 1) % n_users == 0) flush(request);
        }
    }

  private:
    Outcome answer(uint32_t request) {
        const std::vector<int32_t> prompt = prompt_of(scenario_, outcomes_, request);
        Message token;
        token.request = request;
        const auto on_token = [&] { send(token); };
        // Who goes first takes turns, so that neither always finds the weights warm.
        engine::Answer plain, ours;
        if (request % 2 == 0) plain = engine::generate(decoder_, plain_, prompt, answer_tokens);
        ours = engine::generate(decoder_, cache_, prompt, answer_tokens, on_token);
        if (request % 2 == 1) plain = engine::generate(decoder_, plain_, prompt, answer_tokens);
        return compare(request, uint32_t(prompt.size()), ours, plain);
    }

    Outcome compare(uint32_t request, uint32_t n_prompt, const engine::Answer& ours, const engine::Answer& plain) {
        Outcome o;
        o.request = request;
        o.n_prompt = n_prompt;
        o.n_arena = uint32_t(cache_.match().arena);
        o.n_host = uint32_t(cache_.match().host);
        o.n_file = uint32_t(cache_.match().file);
        o.larder_ns = ours.first_token_ns;
        o.plain_ns = plain.first_token_ns;
        for (size_t i = 0; i < answer_tokens; ++i) {
            o.answer[i] = ours.tokens[i];
            o.n_tokens_different += ours.tokens[i] != plain.tokens[i];
        }
        for (size_t i = 0; i < ours.logits.size(); ++i)
            o.n_logits_different += std::memcmp(&ours.logits[i], &plain.logits[i], sizeof(float)) != 0;
        o.traffic = meter_.take();
        return o;
    }

    void flush(uint32_t request) {
        cache_.flush();
        Message m;
        m.kind = Kind::flushed;
        m.request = request;
        m.traffic = meter_.take();
        send(m);
    }

    void send(const Message& m) {
        if (::write(pipe_, &m, sizeof m) != ssize_t(sizeof m)) throw engine::Error("the parent process is gone");
    }

    const Scenario& scenario_;
    std::vector<Outcome> outcomes_;
    int pipe_;
    engine::Decoder decoder_;
    engine::PrivateCache plain_;
    Clock::time_point opened_;
    LarderCache cache_;
    TrafficMeter meter_;
};

[[noreturn]] void run_child(const engine::Model& model, const Scenario& scenario, const CacheOptions& cache,
                            const std::vector<Outcome>& before, int pipe) {
    int status = 0;
    try {
        Worker(model, scenario, cache, before, pipe).run();
    } catch (const std::exception& e) {
        Message m;
        m.kind = Kind::failed;
        std::strncpy(m.text, e.what(), sizeof m.text - 1);
        status = ::write(pipe, &m, sizeof m) == ssize_t(sizeof m) ? 1 : 2;
    }
    ::_exit(status);
}

// A running child, seen from the parent.
class Child {
  public:
    Child(const engine::Model& model, const Scenario& scenario, const CacheOptions& cache,
          const std::vector<Outcome>& before) {
        int ends[2];
        if (::pipe(ends) != 0) throw engine::Error(std::string("pipe: ") + std::strerror(errno));
        pid_ = ::fork();
        if (pid_ < 0) throw engine::Error(std::string("fork: ") + std::strerror(errno));
        if (pid_ == 0) {
            ::close(ends[0]);
            run_child(model, scenario, cache, before, ends[1]);
        }
        ::close(ends[1]);
        pipe_ = ends[0];
    }
    ~Child() {
        kill();
        wait();
        ::close(pipe_);
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    // False when the child has said all it will say.
    bool receive(Message& m) {
        size_t have = 0;
        while (have < sizeof m) {
            const ssize_t n = ::read(pipe_, reinterpret_cast<char*>(&m) + have, sizeof m - have);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return false;
            have += size_t(n);
        }
        return true;
    }

    void kill() {
        if (pid_ > 0) ::kill(pid_, SIGKILL);
    }

    // The child's wait status.
    int wait() {
        if (pid_ > 0)
            while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
            }
        pid_ = -1;
        return status_;
    }

  private:
    pid_t pid_ = -1;
    int pipe_ = -1;
    int status_ = 0;
};

class Leader {
  public:
    Leader(const engine::Model& model, const Scenario& scenario, const CacheOptions& cache, Watcher& watcher)
        : model_(model), scenario_(scenario), cache_(cache), watcher_(watcher) {}

    Conversation lead() {
        follow(true);
        if (!result_.killed) throw engine::Error("the first process ended before it could be killed");
        result_.restarted_at = uint32_t(result_.outcomes.size());
        follow(false);
        if (result_.outcomes.size() != n_requests) throw engine::Error("the second process ended too early");
        return std::move(result_);
    }

  private:
    void follow(bool kill_it) {
        Child child(model_, scenario_, cache_, result_.outcomes);
        n_tokens_ = uint32_t(result_.outcomes.size()) * answer_tokens;
        Message m;
        uint32_t n_of_killed = 0;
        while (child.receive(m)) {
            take(m, kill_it);
            if (kill_it && m.kind == Kind::token && m.request == killed_request && ++n_of_killed == answer_tokens / 2) {
                child.kill();
                const int status = child.wait();
                watcher_.event("killed the process with SIGKILL in the middle of an answer; "
                               "starting it again on the same directory");
                result_.killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
                return;  // what it may still have said does not count
            }
        }
        const int status = child.wait();
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw engine::Error("a process of the demo died");
    }

    void take(const Message& m, bool first_process) {
        switch (m.kind) {
        case Kind::opened:
            if (!first_process) result_.reopen_ns = m.elapsed_ns;
            break;
        case Kind::token:
            ++n_tokens_;
            watcher_.progress(double(n_tokens_) / total, "turn " + std::to_string(Scenario::turn_of(m.request) + 1) +
                                                             ", user " +
                                                             std::to_string(Scenario::user_of(m.request) + 1));
            break;
        case Kind::outcome:
            result_.outcomes.push_back(m.outcome);
            break;
        case Kind::flushed:
            result_.flushes[Scenario::turn_of(m.request)] += m.traffic;
            break;
        case Kind::failed:
            throw engine::Error(m.text);
        }
    }

    static constexpr double total = n_requests * answer_tokens;
    const engine::Model& model_;
    const Scenario& scenario_;
    const CacheOptions& cache_;
    Watcher& watcher_;
    Conversation result_;
    uint32_t n_tokens_ = 0;
};

}  // namespace

Traffic& Traffic::operator+=(const Traffic& other) {
    arena_out += other.arena_out;
    encoded += other.encoded;
    arena_in += other.arena_in;
    disk_written += other.disk_written;
    disk_read += other.disk_read;
    return *this;
}

std::vector<int32_t> prompt_of(const Scenario& scenario, const std::vector<Outcome>& before, uint32_t request) {
    const uint32_t user = Scenario::user_of(request);
    std::vector<int32_t> prompt = scenario.documents[Scenario::document_of(user)];
    const auto ask = [&](uint32_t turn) {
        const auto& question = scenario.questions[turn * n_users + user];
        prompt.insert(prompt.end(), question.begin(), question.end());
    };
    for (const Outcome& o : before) {
        if (Scenario::user_of(o.request) != user) continue;
        ask(Scenario::turn_of(o.request));
        prompt.insert(prompt.end(), o.answer.begin(), o.answer.end());
    }
    ask(Scenario::turn_of(request));
    return prompt;
}

Conversation converse(const engine::Model& model, const Scenario& scenario, const CacheOptions& cache,
                      Watcher& watcher) {
    return Leader(model, scenario, cache, watcher).lead();
}

}  // namespace demo
