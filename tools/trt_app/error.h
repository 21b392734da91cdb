// What the user can mend, as one sentence; the number is the program's exit code.
#pragma once

#include <stdexcept>
#include <string>

namespace app {

class Error : public std::runtime_error {
public:
    Error(int code, std::string const& sentence) : std::runtime_error(sentence), code(code) {}
    int const code;
};

// An option or a file that cannot be used as it is.
inline Error wrong(std::string const& sentence) { return {2, sentence}; }

// A library or a device that is not there.
inline Error missing(std::string const& sentence) { return {4, sentence}; }

} // namespace app
