// Reference data that lies beside the checkout on some machines and is absent on others.
#pragma once

#include <optional>
#include <string>

// The path of a file or directory of the reference data, or nothing, after printing which part of the test is skipped
// for the lack of it.
std::optional<std::string> shared_data(const std::string& name);
