// The figures as text.
#include <algorithm>
#include <cstdio>

#include "demo/format.h"
#include "demo/summary.h"

namespace demo {

namespace {

// Right-aligned columns, the first left-aligned.
class Table {
  public:
    explicit Table(std::vector<std::string> heads) { rows_.push_back(std::move(heads)); }

    void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

    void print() const {
        std::vector<size_t> widths;
        for (const auto& row : rows_) {
            widths.resize(std::max(widths.size(), row.size()));
            for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
        }
        for (size_t r = 0; r < rows_.size(); ++r) {
            std::printf(" ");
            for (size_t i = 0; i < rows_[r].size(); ++i)
                std::printf(i == 0 ? " %-*s" : "  %*s", int(widths[i]), rows_[r][i].c_str());
            std::printf("\n");
            if (r > 0) continue;
            size_t total = 0;
            for (size_t w : widths) total += w + 2;
            std::printf("  %s\n", std::string(total - 2, '-').c_str());
        }
    }

  private:
    std::vector<std::vector<std::string>> rows_;
};

void print_turns(const Summary& s) {
    Table tokens({"turn", "requests", "prompt", "arena", "RAM", "file", "computed", "Larder", "without", "speed-up"});
    Table bytes({"turn", "out of the arena", "stored as", "compression", "into the arena", "written", "read"});
    const auto add = [&](const TurnRow& r) {
        const Traffic& m = r.traffic;
        tokens.add({r.label, grouped(r.n_requests), grouped(r.n_prompt), grouped(r.n_arena), grouped(r.n_host),
                    grouped(r.n_file), grouped(r.n_computed), format("%.1f ms", r.larder_ms),
                    format("%.1f ms", r.plain_ms), format("%.1fx", r.speed_up())});
        bytes.add({r.label, mebibytes(m.arena_out), mebibytes(m.encoded),
                   m.encoded ? format("%.2fx", m.compression()) : "-", mebibytes(m.arena_in), mebibytes(m.disk_written),
                   mebibytes(m.disk_read)});
    };
    for (const TurnRow& r : s.turns) add(r);
    add(s.total);
    std::printf("\nPrompt tokens by where their keys and values were found, and the median time to "
                "first token\n");
    tokens.print();
    std::printf("\nMiB moved: fp16 between the arena and the tiers below, encoded bytes to and "
                "from the disk\n");
    bytes.print();
}

void print_codecs(const CodecReport& c) {
    std::printf("\nCodec presets: %u held-out prompts of %u tokens, the %u tokens after each "
                "scored; perplexity with fp16 %.3f\n",
                c.n_windows, c.prompt_tokens, c.scored_tokens, c.plain_perplexity);
    Table t(
        {"preset", "bits/value", "vs fp16", "max |logit diff|", "perplexity", "change", "encode MB/s", "decode MB/s"});
    for (const CodecResult& r : c.presets)
        if (r.measured)
            t.add({r.name, format("%.2f", r.bits_per_value), format("%.2fx", r.compression),
                   r.n_logits_different ? format("%.4f", r.logit_difference) : "0", format("%.3f", r.perplexity),
                   signed_percent(c.change(r)), format("%.0f", r.encode_mb_s), format("%.0f", r.decode_mb_s)});
    t.print();
    for (const CodecResult& r : c.presets)
        if (!r.measured) std::printf("  %s: not measured: %s\n", r.name.c_str(), r.why.c_str());
}

}  // namespace

void print_tables(const Summary& s) {
    print_turns(s);
    print_codecs(s.codecs);
    std::printf("\nChecks\n");
    for (const Check& c : s.checks)
        std::printf("  [%s] %s: %s\n", c.holds ? "ok" : "FAILED", c.claim.c_str(), c.detail.c_str());
}

}  // namespace demo
