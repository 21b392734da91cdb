#include "json.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace app {
namespace {

constexpr int kDepth = 100; // nested deeper than any sidecar; a bound keeps the stack whole
constexpr double kWhole = 9007199254740992.0; // doubles count up to here

class Parser {
public:
    explicit Parser(std::string const& source) : source(source) {}

    Json document() {
        Json found = value(0);
        space();
        if (next != source.size()) fail("something follows the value");
        return found;
    }

private:
    std::string const& source;
    std::size_t next = 0;

    [[noreturn]] void fail(std::string const& why) const {
        throw std::invalid_argument("at byte " + std::to_string(next) + ": " + why);
    }

    char peek() const { return next < source.size() ? source[next] : '\0'; }
    bool digit() const { return peek() >= '0' && peek() <= '9'; }

    void space() {
        while (std::string_view(" \t\r\n").find(peek()) != std::string_view::npos) ++next;
    }

    bool take(char wanted) {
        if (peek() != wanted) return false;
        ++next;
        return true;
    }

    void expect(char wanted) {
        if (!take(wanted)) fail(std::string("expected '") + wanted + "'");
    }

    Json value(int depth) {
        if (depth > kDepth) fail("nested too deeply");
        space();
        Json found;
        switch (peek()) {
        case '{': object(found, depth); break;
        case '[': array(found, depth); break;
        case '"':
            found.kind = Json::Kind::string;
            found.text = string();
            break;
        case 't': word("true"), found.kind = Json::Kind::boolean, found.flag = true; break;
        case 'f': word("false"), found.kind = Json::Kind::boolean; break;
        case 'n': word("null"); break;
        default: found.kind = Json::Kind::number, found.number = number();
        }
        return found;
    }

    void object(Json& found, int depth) {
        found.kind = Json::Kind::object;
        expect('{');
        space();
        if (take('}')) return;
        do {
            space();
            std::string name = string();
            space();
            expect(':');
            if (!found.members.emplace(name, value(depth + 1)).second) fail("'" + name + "' is there twice");
            space();
        } while (take(','));
        expect('}');
    }

    void array(Json& found, int depth) {
        found.kind = Json::Kind::array;
        expect('[');
        space();
        if (take(']')) return;
        do {
            found.items.push_back(value(depth + 1));
            space();
        } while (take(','));
        expect(']');
    }

    void word(char const* wanted) {
        if (source.compare(next, std::strlen(wanted), wanted) != 0) fail("no value");
        next += std::strlen(wanted);
    }

    double number() {
        std::size_t const start = next;
        auto digits = [this] {
            if (!digit()) fail("no value");
            while (digit()) ++next;
        };
        take('-');
        if (!take('0')) digits();
        if (take('.')) digits();
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            digits();
        }
        return std::strtod(source.substr(start, next - start).c_str(), nullptr);
    }

    std::string string() {
        expect('"');
        std::string found;
        while (!take('"')) {
            if (next == source.size()) fail("a string does not end");
            char const c = source[next];
            if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
            ++next;
            if (c == '\\') {
                escape(found);
            } else {
                found += c;
            }
        }
        return found;
    }

    void escape(std::string& found) {
        std::size_t const place = std::string_view("\"\\/bfnrt").find(peek());
        if (place != std::string_view::npos) {
            ++next;
            found += "\"\\/\b\f\n\r\t"[place];
        } else if (take('u')) {
            std::uint32_t point = hexadecimal();
            if (point >= 0xD800 && point < 0xDC00) { // the first half of a pair
                std::uint32_t const second = take('\\') && take('u') ? hexadecimal() : 0;
                if (second < 0xDC00 || second > 0xDFFF) fail("half of a surrogate pair");
                point = 0x10000 + ((point - 0xD800) << 10) + (second - 0xDC00);
            } else if (point >= 0xDC00 && point <= 0xDFFF) {
                fail("half of a surrogate pair");
            }
            utf8(found, point);
        } else {
            fail("no such escape");
        }
    }

    std::uint32_t hexadecimal() {
        std::uint32_t found = 0;
        for (int i = 0; i < 4; ++i, ++next) {
            std::size_t const place = std::string_view("0123456789abcdefABCDEF").find(peek());
            if (place == std::string_view::npos) fail("four hexadecimal digits belong after \\u");
            found = found * 16 + static_cast<std::uint32_t>(place < 16 ? place : place - 6);
        }
        return found;
    }

    static void utf8(std::string& found, std::uint32_t point) {
        auto add = [&found](std::uint32_t byte) { found += static_cast<char>(byte); };
        if (point < 0x80) return add(point);
        if (point < 0x800) {
            add(0xC0 | point >> 6);
        } else {
            if (point < 0x10000) {
                add(0xE0 | point >> 12);
            } else {
                add(0xF0 | point >> 18);
                add(0x80 | (point >> 12 & 0x3F));
            }
            add(0x80 | (point >> 6 & 0x3F));
        }
        add(0x80 | (point & 0x3F));
    }
};

void require(bool is, char const* what) {
    if (!is) throw std::invalid_argument(std::string("a value is no ") + what);
}

} // namespace

Json Json::parse(std::string const& source) { return Parser(source).document(); }

Json const& Json::at(std::string const& name) const {
    auto const found = as_object().find(name);
    if (found == members.end()) throw std::invalid_argument("'" + name + "' is missing");
    return found->second;
}

Json const& Json::at(std::size_t index) const {
    if (index >= as_array().size()) throw std::invalid_argument("a list is too short");
    return items[index];
}

std::string const& Json::as_string() const {
    require(kind == Kind::string, "string");
    return text;
}

std::int64_t Json::as_integer() const {
    require(kind == Kind::number && std::floor(number) == number && std::fabs(number) <= kWhole, "whole number");
    return static_cast<std::int64_t>(number);
}

std::vector<Json> const& Json::as_array() const {
    require(kind == Kind::array, "list");
    return items;
}

std::map<std::string, Json> const& Json::as_object() const {
    require(kind == Kind::object, "object");
    return members;
}

bool Json::is_true(std::string const& name) const {
    auto const found = as_object().find(name);
    return found != members.end() && found->second.kind == Kind::boolean && found->second.flag;
}

} // namespace app
