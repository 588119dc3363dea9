// Inline SVG, coloured by the page's style sheet so that it follows light and dark.
#pragma once

#include <string>

#include "demo/summary.h"

namespace demo {

std::string escaped(const std::string& text);

// A pair of bars for each request: without Larder and with.
std::string first_token_chart(const Summary& summary);
// A stacked bar for each request: arena, RAM, file, computed.
std::string source_chart(const Summary& summary);
// Two bars for each preset: size and harm.
std::string codec_chart(const CodecReport& codecs);

}  // namespace demo
