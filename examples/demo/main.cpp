// The demo: eight users talk to a small language model about three documents; the cache of keys and
// values outgrows its arena, and its process is killed half-way. Everything it claims it checks
// against the same engine without Larder.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include "demo/format.h"
#include "demo/summary.h"
#include "engine/error.h"
#include "larder/larder.h"

namespace demo {

namespace {

struct Arguments {
    std::string model = "examples/models/larder-demo.kvlm";
    std::string tokenizer;  // default: the model's name with .bpe
    std::string text;       // likewise with .txt
    std::string report = "demo-report.html";
    CacheOptions cache;
    uint32_t n_windows = 12;  // for measuring codecs
};

constexpr char usage[] = "usage: larder-demo [options]\n"
                         "  --model FILE       weights, kvlm1 or llama2.c (examples/models/larder-demo.kvlm)\n"
                         "  --tokenizer FILE   (beside the model, .bpe)\n"
                         "  --text FILE        what the documents and questions are cut from (kjv-heldout.txt beside "
                         "the model)\n"
                         "  --report FILE      the page to write (demo-report.html)\n"
                         "  --directory DIR    of the file tier (a new one under $TMPDIR or /tmp, removed at the end)\n"
                         "  --blocks N         blocks of 16 tokens in the arena (96)\n"
                         "  --ram-mib N        RAM tier (6)\n"
                         "  --file-mib N       file tier (64)\n"
                         "  --codec CHAIN      of the tiers (lossless)\n"
                         "  --windows N        prompts that each codec preset is measured on (12)\n";

// A number of the command line; anything else ends the program.
uint64_t number(const char* option, const char* text, uint64_t least, uint64_t most) {
    char* end = nullptr;
    const unsigned long long n = std::strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n < least || n > most)
        throw engine::Error(format("%s: '%s' is not a number in %llu .. %llu", option, text, (unsigned long long)least,
                                   (unsigned long long)most));
    return n;
}

Arguments parse(int argc, char** argv) {
    Arguments a;
    a.cache.n_blocks = 96;
    a.cache.host_bytes = 6 << 20;
    a.cache.file_bytes = 64 << 20;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--help") {
            std::fputs(usage, stdout);
            std::exit(0);
        }
        if (i + 1 == argc) throw engine::Error(option + ": unknown, or its value is missing; see --help");
        const char* value = argv[++i];
        if (option == "--model")
            a.model = value;
        else if (option == "--tokenizer")
            a.tokenizer = value;
        else if (option == "--text")
            a.text = value;
        else if (option == "--report")
            a.report = value;
        else if (option == "--directory")
            a.cache.directory = value;
        else if (option == "--blocks")
            a.cache.n_blocks = number("--blocks", value, 1, 1 << 20);
        else if (option == "--ram-mib")
            a.cache.host_bytes = number("--ram-mib", value, 0, 1 << 20) << 20;
        else if (option == "--file-mib")
            a.cache.file_bytes = number("--file-mib", value, 1, 1 << 20) << 20;
        else if (option == "--windows")
            a.n_windows = uint32_t(number("--windows", value, 1, 1000));
        else if (option == "--codec")
            a.cache.codec = value;
        else
            throw engine::Error(option + ": unknown; see --help");
    }
    const std::filesystem::path model = a.model;
    if (a.tokenizer.empty()) a.tokenizer = std::filesystem::path(model).replace_extension(".bpe");
    if (a.text.empty()) a.text = std::filesystem::path(model).replace_extension(".txt");
    return a;
}

// The file tier's directory: the user's, or one of our own that goes with us.
class Directory {
  public:
    explicit Directory(const std::string& wanted) : path_(wanted), ours_(wanted.empty()) {
        if (!ours_) return;
        path_ = (std::filesystem::temp_directory_path() / "larder-demo-XXXXXX").string();
        if (!::mkdtemp(path_.data())) throw engine::Error(path_ + ": " + std::strerror(errno));
    }
    ~Directory() {
        std::error_code ignored;
        if (ours_) std::filesystem::remove_all(path_, ignored);
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    const std::string& path() const { return path_; }

  private:
    std::string path_;
    bool ours_;
};

// A bar that redraws itself on a terminal, and a line for every tenth elsewhere.
class Bar final : public Watcher {
  public:
    void progress(double part, const std::string& what) override {
        const int tenth = int(part * 10);
        if (!terminal_ && tenth == tenth_) return;
        tenth_ = tenth;
        constexpr size_t width = 30;
        const size_t filled = size_t(part * width);
        std::printf("%s  [%s%s] %3.0f %%  %-20s%s", terminal_ ? "\r" : "", std::string(filled, '#').c_str(),
                    std::string(width - filled, '.').c_str(), part * 100, what.c_str(), terminal_ ? "" : "\n");
        std::fflush(stdout);
    }
    void event(const std::string& what) override { std::printf("%s  %s\n", terminal_ ? "\n" : "", what.c_str()); }
    void done() {
        progress(1, "done");
        if (terminal_) std::printf("\n");
    }

  private:
    const bool terminal_ = ::isatty(STDOUT_FILENO) == 1;
    int tenth_ = -1;
};

// The conversation is most of the work.
class Part final : public Watcher {
  public:
    Part(Watcher& whole, double part) : whole_(whole), part_(part) {}
    void progress(double part, const std::string& what) override { whole_.progress(part * part_, what); }
    void event(const std::string& what) override { whole_.event(what); }

  private:
    Watcher& whole_;
    const double part_;
};

std::string text_of(const std::string& path) {
    const auto bytes = engine::read_file(path);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void introduce(const Summary& s) {
    const double block_kib = 16.0 * s.shape.n_layers * 2 * double(s.shape.kv_width()) * 2 / 1024;
    std::printf("Larder %s: %u users read %u documents in %u turns (%u tokens in, %u out) with %s\n"
                "(%.1f M parameters, %u layers, %u tokens of context), on %s.\n"
                "Arena: %llu blocks of 16 tokens, %.1f MiB. RAM tier: %.0f MiB. File tier: %.0f "
                "MiB. Codec: %s.\n\n",
                larder_version_string(), n_users, n_documents, n_turns, question_tokens, answer_tokens,
                s.model_name.c_str(), double(s.n_parameters) * 1e-6, s.shape.n_layers, s.shape.context,
                s.machine.c_str(), (unsigned long long)s.cache.n_blocks, double(s.cache.n_blocks) * block_kib / 1024,
                double(s.cache.host_bytes) / (1 << 20), double(s.cache.file_bytes) / (1 << 20), s.cache.codec.c_str());
    std::fflush(stdout);
}

int run(int argc, char** argv) {
    const auto start = std::chrono::steady_clock::now();
    Arguments arguments = parse(argc, argv);
    const engine::Model model = engine::load_model(arguments.model);
    if (model.shape.context < document_tokens + n_turns * (question_tokens + answer_tokens))
        throw engine::Error(format("%s: its context of %u tokens is too short for the conversation",
                                   arguments.model.c_str(), model.shape.context));
    const auto tokenizer = engine::load_tokenizer(arguments.tokenizer, model.shape.vocab);
    const Scenario scenario = make_scenario(*tokenizer, text_of(arguments.text));
    const Directory directory(arguments.cache.directory);
    arguments.cache.directory = directory.path();

    Summary s;
    s.model_name = std::filesystem::path(arguments.model).stem();
    s.machine = machine_name();
    s.date = today();
    s.n_parameters = model.n_parameters();
    s.shape = model.shape;
    s.cache = arguments.cache;
    introduce(s);
    Bar bar;
    Part talk(bar, 0.9);
    s.conversation = converse(model, scenario, arguments.cache, talk);
    bar.progress(0.9, "measuring codecs");
    s.codecs = measure_codecs(model, tokenizer->beginning(), scenario.rest, scenario.documents, arguments.n_windows);
    bar.done();
    const Outcome& last = s.conversation.outcomes.back();
    s.sample_question =
        tokenizer->decode(scenario.questions[(n_turns - 1) * n_users + Scenario::user_of(last.request)]);
    s.sample_answer = tokenizer->decode(last.answer);
    s.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    summarize(s);
    print_tables(s);
    write_report(s, arguments.report);
    std::printf("\n%s in %.1f s. The charts: %s\n", s.good() ? "All checks hold," : "A CHECK FAILED,", s.seconds,
                arguments.report.c_str());
    return s.good() ? 0 : 1;
}

}  // namespace

}  // namespace demo

int main(int argc, char** argv) {
    try {
        return demo::run(argc, argv);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "\nlarder-demo: %s\n", e.what());
        return 2;
    }
}
