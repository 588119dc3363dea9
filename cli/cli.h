// The `larder` command: what its subcommands share.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "larder/larder.h"

namespace cli {

// Exit codes that scripts can rely on.
enum Exit : int {
    exit_ok = 0,
    exit_found = 1,    // the command ran and found something wrong (corrupt records, a figure that falls short)
    exit_usage = 2,    // wrong arguments
    exit_input = 3,    // a file or directory that is missing, unreadable, or not of the right kind
    exit_failure = 4,  // the library or the system failed
};

struct Options {
    bool json = false;
    bool quiet = false;  // no progress
};

using ContextPtr = std::unique_ptr<larder_context, void (*)(larder_context*)>;
ContextPtr make_context();

// The last error of the library as one line on standard error (or as JSON on standard output); gives the exit code for
// the status.
int report(const Options& o, larder_status status, const std::string& what);

// Likewise for what the command itself found; gives `code` back.
int report(const Options& o, Exit code, const std::string& message);

// What is not UTF-8 (a path may be anything) is written with replacement characters.
std::string to_text(const nlohmann::json& j);

std::string human_bytes(uint64_t n);
std::string hex(const uint8_t* p, size_t n);

// A progress bar on standard error, only where a person watches.
class Progress {
  public:
    Progress(const Options& o, std::string label, uint64_t total);
    ~Progress();
    void at(uint64_t done);

  private:
    bool on_;
    std::string label_;
    uint64_t total_;
    int last_ = -1;
};

// Each adds its subcommand; the chosen one's exit code goes to `code`.
void add_info(CLI::App& app, Options& o, int& code);
void add_inspect(CLI::App& app, Options& o, int& code);
void add_fsck(CLI::App& app, Options& o, int& code);
void add_replay(CLI::App& app, Options& o, int& code);
void add_codec(CLI::App& app, Options& o, int& code);
void add_experts(CLI::App& app, Options& o, int& code);

}  // namespace cli
