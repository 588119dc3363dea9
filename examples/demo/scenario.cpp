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
    Scenario s;
    size_t at = 0;
    const auto next_page = [&] {
        const size_t end = std::min(text.find('\f', at), text.size());
        const std::vector<int32_t> tokens = tokenizer.encode(text.substr(at, end - at));
        at = std::min(end + 1, text.size());
        return tokens;
    };
    for (uint32_t i = 0; i < n_documents; ++i) {
        std::vector<int32_t> document = next_page();
        document.insert(document.begin(), tokenizer.beginning());
        if (document.size() < document_tokens)
            throw engine::Error("page " + std::to_string(i + 1) + " of the text has " +
                                std::to_string(document.size()) + " tokens, too few for a document");
        document.resize(document_tokens);
        s.documents.push_back(std::move(document));
    }
    while (at < text.size()) {
        const std::vector<int32_t> page = next_page();
        s.rest.insert(s.rest.end(), page.begin(), page.end());
    }
    constexpr size_t asked = n_requests * question_tokens;
    if (s.rest.size() < asked)
        throw engine::Error("the text has " + std::to_string(s.rest.size()) +
                            " tokens after its documents, too few for the questions");
    for (auto from = s.rest.begin(); s.questions.size() < n_requests; from += question_tokens)
        s.questions.emplace_back(from, from + question_tokens);
    s.rest.erase(s.rest.begin(), s.rest.begin() + asked);
    return s;
}

}  // namespace demo
