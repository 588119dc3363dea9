#include "demo/scenario.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/error.h"

namespace demo {

uint32_t Scenario::user_of(uint32_t request) {
    uint32_t order[n_users];
    std::iota(order, order + n_users, 0u);
    uint32_t state = 12345u + turn_of(request);
    for (uint32_t i = n_users - 1; i > 0; --i) {
        state = state * 1664525u + 1013904223u;
        std::swap(order[i], order[(state >> 16) % (i + 1)]);
    }
    return order[request % n_users];
}

Scenario make_scenario(const engine::Tokenizer& tokenizer, const std::string& text) {
    const std::vector<int32_t> tokens = tokenizer.encode(text);
    Scenario s;
    size_t at = 0;
    const auto take = [&](size_t n) {
        if (tokens.size() - at < n)
            throw engine::Error("the text has " + std::to_string(tokens.size()) +
                                " tokens, too few for the documents and questions");
        at += n;
        return std::vector<int32_t>(tokens.begin() + ptrdiff_t(at - n),
                                    tokens.begin() + ptrdiff_t(at));
    };
    for (uint32_t i = 0; i < n_documents; ++i) {
        std::vector<int32_t> document = take(document_tokens - 1);
        document.insert(document.begin(), tokenizer.beginning());
        s.documents.push_back(std::move(document));
    }
    for (uint32_t i = 0; i < n_requests; ++i) s.questions.push_back(take(question_tokens));
    s.rest = take(tokens.size() - at);
    return s;
}

} // namespace demo
