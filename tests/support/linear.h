// Is a recorded history of a map's operations linearizable?
//
// Operations on different keys do not interact, so each key is a register of its own: "absent" or a value. For each key
// the checker looks for an order of the operations that respects real time (one that returned before another began
// comes first) and explains every answer, trying depth first and remembering which sets of finished operations with
// which state led nowhere (Wing and Gong 1993, with Lowe's memory).
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

struct LinearOp {
    enum Kind { get, put, insert, swap, remove };
    Kind kind;
    uint64_t key = 0;
    uint64_t argument = 0;  // value of put, insert and swap
    uint64_t expected = 0;  // swap
    // The answer: done (found, inserted, swapped, removed), and the value seen where there is one.
    bool done = false;
    std::optional<uint64_t> seen;
    uint64_t began = 0, ended = 0;
};

class LinearChecker {
  public:
    // One key's operations, at most 63. The register is empty at first unless `initial` is given.
    static bool linearizable(std::vector<LinearOp> ops, std::optional<uint64_t> initial = {}) {
        LinearChecker c;
        c.ops_ = std::move(ops);
        return c.search(0, initial);
    }
    static std::string text(const std::vector<LinearOp>& ops);

  private:
    using State = std::optional<uint64_t>;

    // Whether `op` may happen in `state` with the answer that was recorded; gives the state after it.
    static bool apply(const LinearOp& op, State& state) {
        const State before = state;
        switch (op.kind) {
        case LinearOp::get:
            return op.done == before.has_value() && op.seen == before;
        case LinearOp::put:
            state = op.argument;
            return op.done;
        case LinearOp::insert:
            if (!before) state = op.argument;
            return op.done == !before.has_value() && (op.done || op.seen == before);
        case LinearOp::swap:
            if (before == State(op.expected)) state = op.argument;
            return op.done == (before == State(op.expected)) && (op.done || op.seen == before);
        case LinearOp::remove:
            state.reset();
            return op.done == before.has_value() && op.seen == before;
        }
        return false;
    }

    bool search(uint64_t finished, State state) {
        if (finished == (uint64_t(1) << ops_.size()) - 1) return true;
        if (!visited_.insert({finished, state}).second) return false;
        uint64_t first_end = UINT64_MAX;
        for (size_t i = 0; i < ops_.size(); ++i)
            if (!(finished >> i & 1)) first_end = std::min(first_end, ops_[i].ended);
        for (size_t i = 0; i < ops_.size(); ++i) {
            if (finished >> i & 1 || ops_[i].began > first_end)
                continue;  // something unfinished had ended before it began
            State next = state;
            if (apply(ops_[i], next) && search(finished | uint64_t(1) << i, next)) return true;
        }
        return false;
    }

    std::vector<LinearOp> ops_;
    std::set<std::pair<uint64_t, State>> visited_;
};

inline std::string LinearChecker::text(const std::vector<LinearOp>& ops) {
    static constexpr const char* names[] = {"get", "put", "insert", "swap", "remove"};
    std::string s;
    for (const LinearOp& o : ops)
        s += std::string(names[o.kind]) + "(" + std::to_string(o.argument) + ", " + std::to_string(o.expected) +
             ") = " + (o.done ? "yes " : "no ") + (o.seen ? std::to_string(*o.seen) : "-") + " [" +
             std::to_string(o.began) + ", " + std::to_string(o.ended) + "]\n";
    return s;
}
