// Line charts as SVG, readable on light and dark pages.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace cli {

struct Series {
    std::string name;
    std::vector<std::pair<double, double>> points;  // x ascending
    bool dashed = false;
};

// x on a logarithmic axis, y from 0 up.
std::string line_chart(const std::string& title, const std::string& x_label, const std::string& y_label,
                       const std::vector<Series>& series);

}  // namespace cli
