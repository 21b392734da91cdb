// JSON (RFC 8259) into values: strict, so that a damaged file is refused and not half understood.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace app {

struct Json {
    enum class Kind { null, boolean, number, string, array, object };

    Kind kind = Kind::null;
    bool flag = false;
    double number = 0;
    std::string text; // UTF-8
    std::vector<Json> items;
    std::map<std::string, Json> members;

    // Throws std::invalid_argument with the place and the reason.
    static Json parse(std::string const& source);

    // These throw std::invalid_argument when the value is of another kind or there is no such member.
    Json const& at(std::string const& name) const;
    Json const& at(std::size_t index) const;
    std::string const& as_string() const;
    std::int64_t as_integer() const;
    std::vector<Json> const& as_array() const;
    std::map<std::string, Json> const& as_object() const;
    bool is_true(std::string const& name) const; // a member that may be missing
};

} // namespace app
