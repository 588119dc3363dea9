// Who asks what: 8 users read 3 documents in 4 turns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/tokenizer.h"

namespace demo {

inline constexpr uint32_t n_documents = 3, n_users = 8, n_turns = 4;
inline constexpr uint32_t document_tokens = 640, question_tokens = 64, answer_tokens = 32;
inline constexpr uint32_t n_requests = n_users * n_turns;
// The process is killed while it answers this request.
inline constexpr uint32_t killed_request = 2 * n_users + 3;

struct Scenario {
    std::vector<std::vector<int32_t>> documents;  // the first token of each begins a text
    std::vector<std::vector<int32_t>> questions;  // [turn * n_users + user]
    std::vector<int32_t> rest;                    // of the text, for measuring codecs

    static uint32_t document_of(uint32_t user) { return user % n_documents; }
    // Which user sends the request; each turn in another order, as chats do.
    static uint32_t user_of(uint32_t request);
    static uint32_t turn_of(uint32_t request) { return request / n_users; }
};

// Cuts a text into documents, questions and the rest. A form feed ends a page; the first pages are
// the documents. Throws engine::Error when there is too little of it.
Scenario make_scenario(const engine::Tokenizer& tokenizer, const std::string& text);

}  // namespace demo
