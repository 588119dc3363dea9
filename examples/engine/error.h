// What the engine throws: one sentence for a person, naming the file or the argument.
#pragma once

#include <stdexcept>

namespace engine {

class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace engine
