// printf into a std::string.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>

namespace demo {

[[gnu::format(printf, 1, 2)]] inline std::string format(const char* pattern, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, pattern);
    const int n = std::vsnprintf(text, sizeof text, pattern, arguments);
    va_end(arguments);
    return std::string(text, n < 0 ? 0 : size_t(n) < sizeof text ? size_t(n) : sizeof text - 1);
}

// A change in per cent, without a sign where it rounds to nothing.
inline std::string signed_percent(double change) {
    return change > -0.005 && change < 0.005 ? "0.00 %" : format("%+.2f %%", change);
}

// 1048576 as 1,048,576
inline std::string grouped(unsigned long long n) {
    std::string digits = std::to_string(n);
    for (size_t at = digits.size(); at > 3;) digits.insert(at -= 3, 1, ',');
    return digits;
}

inline std::string mebibytes(unsigned long long n) {
    return format("%.2f", double(n) / (1 << 20));
}

}  // namespace demo
