#include "chart.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace cli {
namespace {

constexpr double width = 760, height = 440, left = 64, right = 190, top = 44, bottom = 52;
// A colour-blind-safe set; pairs of series (full and dashed line) share one.
constexpr const char* colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"};

struct Scale {
    double x_min, x_max, y_max;
    double x(double v) const {
        const double span = std::log(x_max) - std::log(x_min);
        return left + (span > 0 ? (std::log(v) - std::log(x_min)) / span : 0.5) * (width - left - right);
    }
    double y(double v) const { return height - bottom - v / y_max * (height - top - bottom); }
};

std::string text(double x, double y, const std::string& s, const char* anchor, const char* extra = "") {
    std::ostringstream o;
    o << "<text x=\"" << x << "\" y=\"" << y << "\" text-anchor=\"" << anchor << "\" " << extra << ">" << s
      << "</text>\n";
    return o.str();
}

std::string axes(const Scale& s) {
    std::ostringstream o;
    const double step = s.y_max > 0.5 ? 0.2 : s.y_max > 0.2 ? 0.1 : 0.05;
    for (double v = 0; v <= s.y_max + 1e-9; v += step) {
        o << "<line class=\"grid\" x1=\"" << left << "\" x2=\"" << width - right << "\" y1=\"" << s.y(v) << "\" y2=\""
          << s.y(v) << "\"/>\n";
        std::ostringstream label;
        label << std::fixed << std::setprecision(2) << v;
        o << text(left - 8, s.y(v) + 4, label.str(), "end");
    }
    const bool narrow = s.x_max < 100 * s.x_min;  // too few powers of ten to read from
    for (double ten = std::pow(10, std::floor(std::log10(s.x_min))); ten <= s.x_max * 1.0001; ten *= 10)
        for (double v : {ten, 2 * ten, 5 * ten}) {
            if (v < s.x_min * 0.9999 || v > s.x_max * 1.0001 || (v > ten && !narrow)) continue;
            o << "<line class=\"grid\" x1=\"" << s.x(v) << "\" x2=\"" << s.x(v) << "\" y1=\"" << top << "\" y2=\""
              << height - bottom << "\"/>\n";
            o << text(s.x(v), height - bottom + 18, std::to_string(uint64_t(v)), "middle");
        }
    return o.str();
}

}  // namespace

std::string line_chart(const std::string& title, const std::string& x_label, const std::string& y_label,
                       const std::vector<Series>& series) {
    Scale s{1e300, 1, 0.05};
    for (auto& one : series)
        for (auto& [x, y] : one.points)
            s.x_min = std::min(s.x_min, x), s.x_max = std::max(s.x_max, x), s.y_max = std::max(s.y_max, y);
    s.x_min = std::max(1.0, std::min(s.x_min, s.x_max));
    s.y_max = std::min(1.0, s.y_max * 1.08);
    std::ostringstream o;
    o << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << width << " " << height
      << "\" font-family=\"sans-serif\" font-size=\"13\">\n"
      << "<style>text{fill:#222}.grid{stroke:#8886;stroke-width:.6}svg{background:#fff}"
         "@media(prefers-color-scheme:dark){text{fill:#ddd}svg{background:#181818}}</style>\n"
      << text((width - right + left) / 2, 24, title, "middle", "font-size=\"16\" font-weight=\"bold\"") << axes(s)
      << text((width - right + left) / 2, height - 12, x_label, "middle")
      << text(16, height / 2, y_label, "middle", "transform=\"rotate(-90 16 220)\"");
    for (size_t i = 0; i < series.size(); ++i) {
        const char* colour = colours[i / 2 % std::size(colours)];
        const char* dash = series[i].dashed ? " stroke-dasharray=\"6 4\"" : "";
        o << "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" << colour << "\"" << dash << " points=\"";
        for (auto& [x, y] : series[i].points) o << s.x(x) << "," << s.y(y) << " ";
        const double ly = top + 12 + 22 * double(i);
        o << "\"/>\n<line stroke-width=\"2\" stroke=\"" << colour << "\"" << dash << " x1=\"" << width - right + 16
          << "\" x2=\"" << width - right + 44 << "\" y1=\"" << ly << "\" y2=\"" << ly << "\"/>\n"
          << text(width - right + 52, ly + 4, series[i].name, "start");
    }
    o << "</svg>\n";
    return o.str();
}

}  // namespace cli
