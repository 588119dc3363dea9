// demo-report.html: one page that needs nothing but itself.
#include <fstream>
#include <initializer_list>

#include "demo/charts.h"
#include "demo/format.h"
#include "engine/error.h"

namespace demo {

namespace {

constexpr char style[] = R"css(
:root{color-scheme:light dark;--paper:#fbfaf8;--card:#fff;--ink:#1c1f24;--soft:#5f6670;--line:#e4e2dd;--plain:#b9bec6;--ours:#0f766e;--arena:#0f766e;--ram:#d98a16;--file:#5b5bd6;--computed:#d3d7dd;--lossy:#5b5bd6;--harm:#c2553b;--good:#0f766e;--goodbg:#e5f4f1;--bad:#b42318;--badbg:#fdecea}
@media(prefers-color-scheme:dark){:root{--paper:#121417;--card:#1a1d22;--ink:#e9ebee;--soft:#9aa3ad;--line:#2c3138;--plain:#5d6570;--ours:#35b8a6;--arena:#35b8a6;--ram:#e6a53a;--file:#8f8ff0;--computed:#3a4049;--lossy:#8f8ff0;--harm:#e07a5f;--good:#4cc9b6;--goodbg:#13302c;--bad:#ff8a7a;--badbg:#3a1b18}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1060px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.02em;margin:0 0 8px}
h2{font-size:19px;letter-spacing:-.01em;margin:0 0 4px}
p{margin:0 0 12px}
.lead{color:var(--soft);max-width:72ch;margin-bottom:20px}
.banner{border-radius:10px;padding:12px 16px;font-weight:600;margin:0 0 20px;background:var(--goodbg);color:var(--good)}
.banner.bad{background:var(--badbg);color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:14px;margin-bottom:20px}
.tile,section{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:16px 18px}
.tile b{display:block;font-size:30px;line-height:1.15;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:14px}
section{padding:22px 24px;margin-bottom:20px}
section>p{color:var(--soft);font-size:14.5px;max-width:86ch}
.legend{display:flex;flex-wrap:wrap;gap:6px 18px;margin:4px 0 10px;font-size:14px;color:var(--soft)}
.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}
.scroll{overflow-x:auto}
svg{display:block;width:100%;min-width:640px;height:auto}
svg text{font-family:inherit;fill:var(--ink)}
.tick{font-size:12px;fill:var(--soft)}.turn{font-size:13.5px;fill:var(--soft)}.value{font-size:13px;fill:var(--soft);font-variant-numeric:tabular-nums}.preset{font-size:14px}
.killed{font-size:12.5px;font-weight:600;fill:var(--bad)}
.grid{stroke:var(--line)}.axis{stroke:var(--soft);stroke-opacity:.6}.kill{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:4 4}
rect.plain{fill:var(--plain)}rect.ours{fill:var(--ours)}rect.arena{fill:var(--arena)}rect.ram{fill:var(--ram)}rect.file{fill:var(--file)}rect.computed{fill:var(--computed)}rect.lossy{fill:var(--lossy)}rect.harm{fill:var(--harm)}
svg+table,.scroll+.scroll{margin-top:18px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:7px 10px;text-align:right;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:500;vertical-align:bottom;white-space:normal;line-height:1.3}
th:first-child,td:first-child{text-align:left;padding-left:0}
tr.total td{font-weight:600;border-bottom:0}
ul.checks{list-style:none;margin:8px 0 0;padding:0}
ul.checks li{padding:7px 0 7px 30px;border-bottom:1px solid var(--line);position:relative}
ul.checks li:last-child{border-bottom:0}
ul.checks li::before{content:"\2713";position:absolute;left:2px;color:var(--good);font-weight:700}
ul.checks li.bad::before{content:"\2717";color:var(--bad)}
ul.checks span{color:var(--soft);font-size:14px;display:block}
blockquote{margin:10px 0 0;padding:2px 0 2px 16px;border-left:3px solid var(--line);font-family:Georgia,"Times New Roman",serif;white-space:pre-wrap}
blockquote em{color:var(--ours);font-style:normal}
footer{color:var(--soft);font-size:14px}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
)css";

class Page {
  public:
    explicit Page(const Summary& s) : s_(s) {}

    std::string make() {
        head();
        tiles();
        requests();
        turns();
        codecs();
        checks();
        words();
        foot();
        return std::move(out_);
    }

  private:
    void add(const std::string& html) { out_ += html; }

    void head() {
        add("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" "
            "content=\"width=device-width,initial-scale=1\">\n<title>Larder: demo "
            "report</title>\n<style>");
        add(style);
        add("</style></head><body><main>\n<h1>A cache that outgrew its memory and survived a "
            "kill</h1>\n<p class=\"lead\">");
        add(format("%u users read %u documents of %u tokens with a language model of %.1f million "
                   "parameters, in %u turns of %u tokens in and %u out. "
                   "The keys and values of all that do not fit the arena, nor the RAM behind it; "
                   "the rest lies in files. "
                   "Half-way the process is killed and started again on the same directory.",
                   n_users, n_documents, document_tokens, double(s_.n_parameters) * 1e-6, n_turns, question_tokens,
                   answer_tokens));
        add("</p>\n");
        if (s_.good())
            add(format("<p class=\"banner\">All %zu checks hold: every token and every logit is "
                       "that of the run without Larder.</p>\n",
                       s_.checks.size()));
        else
            add("<p class=\"banner bad\">A check failed; see below.</p>\n");
    }

    void tile(const std::string& figure, const std::string& what) {
        add("<div class=\"tile\"><b>" + figure + "</b><span>" + what + "</span></div>\n");
    }

    void tiles() {
        const TurnRow& all = s_.total;
        add("<div class=\"tiles\">\n");
        tile(format("%.1f&times;", all.speed_up()),
             format("faster to the first token (median %.1f ms instead of %.1f ms)", all.larder_ms, all.plain_ms));
        tile(format("%.0f&thinsp;%%", 100.0 * double(all.n_prompt - all.n_computed) / double(all.n_prompt)),
             "of " + grouped(all.n_prompt) + " prompt tokens were not computed again");
        tile(grouped(uint64_t(n_requests) * answer_tokens * s_.shape.vocab),
             "logits compared bit by bit with the run without Larder");
        tile(all.traffic.encoded ? format("%.2f&times;", all.traffic.compression()) : "&ndash;",
             format("compression of what left the arena (%s)", escaped(s_.cache.codec).c_str()));
        add("</div>\n");
    }

    void legend(std::initializer_list<std::pair<const char*, const char*>> entries) {
        add("<div class=\"legend\">");
        for (const auto& [colour, what] : entries)
            add(format("<span><i style=\"background:var(--%s)\"></i>%s</span>", colour, what));
        add("</div>\n");
    }

    void requests() {
        add("<section><h2>Time to first token</h2>\n<p>Each request was answered twice in the same "
            "process by the same engine: from an empty private cache, and from Larder. "
            "Larder&rsquo;s time includes finding, reading, verifying and decoding what was "
            "stored.</p>\n");
        legend({{"plain", "without Larder"}, {"ours", "with Larder"}});
        add("<div class=\"scroll\">" + first_token_chart(s_) + "</div></section>\n");
        add("<section><h2>Where the prompt came from</h2>\n<p>Prompt tokens of each request. What "
            "is not in a tier is computed; with an empty cache that would be the whole bar.</p>\n");
        legend({{"arena", "in the arena, shared at once"},
                {"ram", "decoded from RAM"},
                {"file", "read from the file tier"},
                {"computed", "computed by the model"}});
        add("<div class=\"scroll\">" + source_chart(s_) + "</div></section>\n");
    }

    // Cells of one row; the first is a label.
    void row(const std::vector<std::string>& cells, bool total) {
        add(total ? "<tr class=\"total\">" : "<tr>");
        for (const std::string& c : cells) add("<td>" + c + "</td>");
        add("</tr>\n");
    }

    void tokens_of(const TurnRow& r, bool total) {
        std::vector<std::string> cells = {escaped(r.label)};
        for (uint64_t n : {uint64_t(r.n_requests), r.n_prompt, r.n_arena, r.n_host, r.n_file, r.n_computed})
            cells.push_back(grouped(n));
        cells.push_back(format("%.1f ms", r.larder_ms));
        cells.push_back(format("%.1f ms", r.plain_ms));
        cells.push_back(format("%.1f&times;", r.speed_up()));
        row(cells, total);
    }

    void bytes_of(const TurnRow& r, bool total) {
        const Traffic& t = r.traffic;
        row({escaped(r.label), mebibytes(t.arena_out), mebibytes(t.encoded),
             t.encoded ? format("%.2f&times;", t.compression()) : "&ndash;", mebibytes(t.arena_in),
             mebibytes(t.disk_written), mebibytes(t.disk_read)},
            total);
    }

    void turns() {
        add("<section><h2>Turn by turn</h2>\n<p>Prompt tokens by where they were found, and the "
            "median time to first token.</p>\n"
            "<div "
            "class=\"scroll\"><table><thead><tr><th>turn</th><th>requests</th><th>prompt</"
            "th><th>arena</th><th>RAM</th><th>file</th><th>computed</th>"
            "<th>with Larder</th><th>without</th><th>speed-up</th></tr></thead><tbody>\n");
        for (const TurnRow& r : s_.turns) tokens_of(r, false);
        tokens_of(s_.total, true);
        add("</tbody></table></div></section>\n<section><h2>Bytes moved</h2>\n<p>MiB of fp16 "
            "between the arena and the tiers below, and of encoded records to and from the "
            "disk.</p>\n"
            "<div class=\"scroll\"><table><thead><tr><th>turn</th><th>out of the "
            "arena</th><th>stored as</th><th>compression</th><th>into the arena</th>"
            "<th>written</th><th>read</th></tr></thead><tbody>\n");
        for (const TurnRow& r : s_.turns) bytes_of(r, false);
        bytes_of(s_.total, true);
        add("</tbody></table></div></section>\n");
    }

    void codecs() {
        const CodecReport& c = s_.codecs;
        add(format("<section><h2>Codec presets</h2>\n<p>%u held-out prompts of %u tokens went "
                   "through each preset; the %u tokens after each were scored with what came back. "
                   "Perplexity with the fp16 cache: %.3f.</p>\n",
                   c.n_windows, c.prompt_tokens, c.scored_tokens, c.plain_perplexity));
        legend({{"ours", "lossless"}, {"lossy", "lossy"}, {"harm", "harm done"}});
        add("<div class=\"scroll\">" + codec_chart(c) +
            "</div>\n<div class=\"scroll\"><table><thead><tr><th>preset</th><th>bits per "
            "value</th><th>against fp16</th>"
            "<th>largest logit difference</th><th>perplexity</th><th>encode MB/s</th><th>decode "
            "MB/s</th></tr></thead><tbody>\n");
        for (const CodecResult& r : c.presets) {
            add("<tr><td>" + escaped(r.name) + "</td>");
            if (r.measured)
                add(format("<td>%.2f</td><td>%.2f&times;</td><td>%.4g</td><td>%.3f</td><td>%.0f</"
                           "td><td>%.0f</td></tr>\n",
                           r.bits_per_value, r.compression, r.logit_difference, r.perplexity, r.encode_mb_s,
                           r.decode_mb_s));
            else
                add("<td colspan=\"6\">not measured: " + escaped(r.why) + "</td></tr>\n");
        }
        add("</tbody></table></div></section>\n");
    }

    void checks() {
        add("<section><h2>Checks</h2><ul class=\"checks\">\n");
        for (const Check& c : s_.checks)
            add(std::string("<li") + (c.holds ? "" : " class=\"bad\"") + ">" + escaped(c.claim) + "<span>" +
                escaped(c.detail) + "</span></li>\n");
        add("</ul></section>\n");
    }

    void words() {
        add("<section><h2>The last words</h2>\n<p>The end of the last conversation: the "
            "user&rsquo;s tokens, then the model&rsquo;s.</p>\n<blockquote>");
        add(escaped(s_.sample_question) + "<em>" + escaped(s_.sample_answer) + "</em></blockquote></section>\n");
    }

    void foot() {
        const double block_mib = 16.0 * s_.shape.n_layers * 2 * double(s_.shape.kv_width()) * 2 / (1 << 20);
        add(format("<footer><p><code>make demo</code>, Larder %s, %s, %s, %.1f s. ", larder_version_string(),
                   escaped(s_.date).c_str(), escaped(s_.machine).c_str(), s_.seconds));
        add(format("Model %s: %u layers, %u query and %u kv heads of %u, %u tokens of context. ",
                   escaped(s_.model_name).c_str(), s_.shape.n_layers, s_.shape.n_heads, s_.shape.n_kv_heads,
                   s_.shape.head_dim, s_.shape.context));
        add(format("Arena %llu blocks of 16 tokens (%.1f MiB), RAM tier %.0f MiB, file tier %.0f "
                   "MiB; the second process opened the directory in %.1f ms.</p></footer>\n",
                   (unsigned long long)s_.cache.n_blocks, double(s_.cache.n_blocks) * block_mib,
                   double(s_.cache.host_bytes) / (1 << 20), double(s_.cache.file_bytes) / (1 << 20),
                   double(s_.conversation.reopen_ns) * 1e-6));
        add("</main></body></html>\n");
    }

    const Summary& s_;
    std::string out_;
};

}  // namespace

void write_report(const Summary& summary, const std::string& path) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << Page(summary).make();
    file.close();
    if (!file) throw engine::Error(path + ": the report could not be written");
}

}  // namespace demo
