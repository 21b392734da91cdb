#pragma once

#include <string>
#include <vector>

namespace app {

// SHA-256 (FIPS 180-4) in hexadecimal.
std::string sha256(std::vector<char> const& bytes);

} // namespace app
