#include "demo/charts.h"

#include <algorithm>
#include <cmath>

#include "demo/format.h"

namespace demo {

namespace {

constexpr double width = 1000;

class Svg {
  public:
    Svg(double height, const std::string& label) {
        out_ = format("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n", width, height,
                      escaped(label).c_str());
    }
    void bar(double x, double y, double w, double h, const char* kind, const std::string& tip) {
        if (h <= 0 || w <= 0) return;
        out_ += format("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" class=\"%s\">", x, y, w, h, kind);
        out_ += "<title>" + escaped(tip) + "</title></rect>\n";
    }
    void line(double x1, double y1, double x2, double y2, const char* kind) {
        out_ += format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1, y1, x2, y2, kind);
    }
    // anchor: start, middle or end
    void text(double x, double y, const char* anchor, const char* kind, const std::string& what) {
        out_ += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor, kind) +
                escaped(what) + "</text>\n";
    }
    std::string finish() { return out_ + "</svg>\n"; }

  private:
    std::string out_;
};

// 1, 2 or 5 times a power of ten, so that about n steps reach `most`.
double step_of(double most, int n) {
    const double raw = std::max(most, 1e-9) / n, power = std::pow(10.0, std::floor(std::log10(raw)));
    for (double m : {1.0, 2.0, 5.0})
        if (m * power >= raw) return m * power;
    return 10 * power;
}

// The frame that both request charts share: a column for each request, a gap between turns, the
// kill.
class Requests {
  public:
    Requests(Svg& svg, const Summary& s, double most, const char* unit) : svg_(svg) {
        step_ = step_of(most, 4);
        top_ = std::ceil(most / step_ - 1e-9) * step_;
        for (double v = 0; v <= top_ + step_ / 2; v += step_) {
            svg.line(left, y(v), width, y(v), v == 0 ? "axis" : "grid");
            svg.text(left - 8, y(v) + 4, "end", "tick", format("%g%s", v, unit));
        }
        for (uint32_t r = 0; r < n_requests; ++r) {
            svg.text(x(r) + column / 2, bottom + 16, "middle", "tick", format("%u", Scenario::user_of(r) + 1));
            if (r % n_users == 0)
                svg.text((x(r) + x(r + n_users - 1) + column) / 2, bottom + 35, "middle", "turn",
                         format("turn %u", r / n_users + 1));
        }
        svg.text(left - 8, bottom + 16, "end", "tick", "user");
        const double kill = x(s.conversation.restarted_at) - 2;
        svg.line(kill, above, kill, bottom, "kill");
        svg.text(kill - 6, above + 2, "end", "killed", "kill -9");
        svg.text(kill + 6, above + 2, "start", "killed", "started again");
    }

    static constexpr double left = 64, above = 22, bottom = 250, height = 292, gap = 18;
    static constexpr double column = (width - left - (n_turns - 1) * gap) / n_requests;

    static double x(uint32_t request) { return left + request * column + request / n_users * gap; }
    double y(double v) const { return bottom - (bottom - above - 10) * v / top_; }
    void bar(uint32_t request, double from, double to, double v0, double v1, const char* kind,
             const std::string& tip) const {
        svg_.bar(x(request) + column * from, y(v1), column * (to - from), y(v0) - y(v1), kind, tip);
    }

  private:
    Svg& svg_;
    double step_ = 1, top_ = 1;
};

}  // namespace

std::string escaped(const std::string& text) {
    std::string out;
    for (char c : text) switch (c) {
        case '&':
            out += "&amp;";
            break;
        case '<':
            out += "&lt;";
            break;
        case '>':
            out += "&gt;";
            break;
        case '"':
            out += "&quot;";
            break;
        default:
            out += c;
        }
    return out;
}

std::string first_token_chart(const Summary& s) {
    Svg svg(Requests::height, "Time to first token of each request, with Larder and without");
    double most = 0;
    for (const Outcome& o : s.conversation.outcomes)
        most = std::max({most, double(o.larder_ns) * 1e-6, double(o.plain_ns) * 1e-6});
    const Requests frame(svg, s, most, " ms");
    for (const Outcome& o : s.conversation.outcomes) {
        const double with = double(o.larder_ns) * 1e-6, without = double(o.plain_ns) * 1e-6;
        const std::string who = format("turn %u, user %u, %u prompt tokens: ", Scenario::turn_of(o.request) + 1,
                                       Scenario::user_of(o.request) + 1, o.n_prompt);
        frame.bar(o.request, 0.10, 0.48, 0, without, "plain", who + format("%.1f ms without Larder", without));
        frame.bar(o.request, 0.52, 0.90, 0, with, "ours", who + format("%.1f ms with Larder", with));
    }
    return svg.finish();
}

std::string source_chart(const Summary& s) {
    Svg svg(Requests::height, "Prompt tokens of each request by where their keys and values came from");
    const Requests frame(svg, s, 1000, "");
    for (const Outcome& o : s.conversation.outcomes) {
        const struct {
            uint32_t n;
            const char* kind;
            const char* where;
        } parts[] = {{o.n_arena, "arena", "in the arena"},
                     {o.n_host, "ram", "from RAM"},
                     {o.n_file, "file", "from the file"},
                     {o.n_computed(), "computed", "computed"}};
        double at = 0;
        for (const auto& p : parts) {
            frame.bar(o.request, 0.12, 0.88, at, at + p.n, p.kind,
                      format("turn %u, user %u: %u of %u prompt tokens %s", Scenario::turn_of(o.request) + 1,
                             Scenario::user_of(o.request) + 1, p.n, o.n_prompt, p.where));
            at += p.n;
        }
    }
    return svg.finish();
}

std::string codec_chart(const CodecReport& c) {
    std::vector<const CodecResult*> rows;
    for (const CodecResult& r : c.presets)
        if (r.measured) rows.push_back(&r);
    std::stable_sort(rows.begin(), rows.end(), [](auto* a, auto* b) { return a->bits_per_value > b->bits_per_value; });
    constexpr double row = 30, first = 40, name = 150, bits_room = 320, harm_left = 600, harm_room = 280;
    const double height = first + row * double(rows.size()) + 6;
    Svg svg(height, "Bits per value and change of perplexity of each codec preset");
    double worst = 0.1;
    for (const CodecResult* r : rows) worst = std::max(worst, c.change(*r));
    svg.text(name, 18, "start", "turn", "bits per value (fp16: 16)");
    svg.text(harm_left, 18, "start", "turn", "change of perplexity");
    svg.line(name + bits_room, 26, name + bits_room, height, "grid");
    svg.line(name, 26, name, height, "axis");
    svg.line(harm_left, 26, harm_left, height, "axis");
    for (size_t i = 0; i < rows.size(); ++i) {
        const CodecResult& r = *rows[i];
        const double y = first + row * double(i), change = c.change(r);
        svg.text(name - 12, y + 14, "end", "preset", r.name);
        svg.bar(name, y, bits_room * std::min(r.bits_per_value, 18.0) / 16, row - 10, r.exact ? "ours" : "lossy",
                r.name + format(": %.2f bits per value", r.bits_per_value));
        svg.text(name + bits_room * std::min(r.bits_per_value, 18.0) / 16 + 8, y + 14, "start", "value",
                 format("%.2f  (%.2fx)", r.bits_per_value, r.compression));
        svg.bar(harm_left, y, harm_room * std::max(0.0, change) / worst, row - 10, "harm",
                r.name + format(": perplexity %.3f", r.perplexity));
        svg.text(harm_left + harm_room * std::max(0.0, change) / worst + 8, y + 14, "start", "value",
                 r.n_logits_different == 0 ? "none: every logit bit-identical" : signed_percent(change));
    }
    return svg.finish();
}

}  // namespace demo
