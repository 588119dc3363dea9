// The JDK's ConcurrentSkipListMap, by a Java program that does what index_driver.h does.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "bench/index_driver.h"

namespace bench {

inline bool java_is_there() {
    return std::system("java -version >/dev/null 2>&1 && javac -version >/dev/null 2>&1") == 0;
}

inline void java_round(const Setting& s, size_t n_threads, Figures& out) {
    const std::string command = std::string("java -Xms4g -Xmx8g ") + LARDER_BENCH_DIR + "/IndexSkipList.java " +
                                std::to_string(s.n_keys) + " " + std::to_string(s.n_ops) + " " +
                                std::to_string(n_threads) + " 2>/dev/null";
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) return;
    char line[256];
    while (std::fgets(line, sizeof line, pipe)) {
        const std::string text = line;
        const size_t tab = text.find('\t');
        if (tab != std::string::npos) out[text.substr(0, tab)].push_back(std::atof(text.c_str() + tab + 1));
    }
    pclose(pipe);
}

}  // namespace bench
