#include "npz.h"

#include "error.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string_view>

namespace app {
namespace {

[[noreturn]] void fail(std::string const& why) { throw std::invalid_argument(why); }

// Bytes with bounds: whatever a damaged file says, nothing outside of it is read.
class View {
public:
    View(char const* data, std::size_t size) : data(data), length(size) {}

    std::size_t size() const { return length; }
    char const* begin() const { return data; }

    View part(std::size_t from, std::size_t count) const {
        if (from > length || count > length - from) fail("it ends too early");
        return {data + from, count};
    }

    std::string text(std::size_t from, std::size_t count) const { return {part(from, count).data, count}; }

    // `count` bytes as a little-endian number
    std::uint32_t number(std::size_t from, std::size_t count) const {
        View const bytes = part(from, count);
        std::uint32_t found = 0;
        for (std::size_t i = count; i > 0; --i) found = found << 8 | static_cast<unsigned char>(bytes.data[i - 1]);
        return found;
    }

private:
    char const* data;
    std::size_t length;
};

std::uint32_t crc32(View bytes) {
    static std::array<std::uint32_t, 256> const table = [] {
        std::array<std::uint32_t, 256> made{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t c = i;
            for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xEDB88320U ^ c >> 1 : c >> 1;
            made[i] = c;
        }
        return made;
    }();
    std::uint32_t c = 0xFFFFFFFFU;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        c = table[(c ^ static_cast<unsigned char>(bytes.begin()[i])) & 0xFF] ^ c >> 8;
    }
    return ~c;
}

// The header of a .npy file: a Python dictionary with three entries.
class Header {
public:
    explicit Header(std::string const& source) : source(source) {
        bool order = false, type = false, sides = false;
        expect('{');
        while (!take('}')) {
            std::string const name = quoted();
            expect(':');
            if (name == "descr" && !type) {
                descr = quoted(), type = true;
            } else if (name == "fortran_order" && !order) {
                fortran = boolean(), order = true;
            } else if (name == "shape" && !sides) {
                shape = numbers(), sides = true;
            } else {
                fail("its header has a strange entry '" + name + "'");
            }
            if (!take(',')) {
                expect('}');
                break;
            }
        }
        if (!order || !type || !sides) fail("its header is not whole");
    }

    std::string descr;
    bool fortran = false;
    std::vector<std::int64_t> shape;

private:
    std::string const& source;
    std::size_t next = 0;

    bool take(char wanted) {
        while (next < source.size() && source[next] == ' ') ++next;
        if (next == source.size() || source[next] != wanted) return false;
        ++next;
        return true;
    }

    void expect(char wanted) {
        if (!take(wanted)) fail(std::string("its header has no '") + wanted + "' where it should");
    }

    std::string quoted() {
        expect('\'');
        std::size_t const end = source.find('\'', next);
        if (end == std::string::npos) fail("its header is not whole");
        std::string const found = source.substr(next, end - next);
        next = end + 1;
        return found;
    }

    bool boolean() {
        take(' ');
        for (char const* word : {"False", "True"}) {
            if (source.compare(next, std::strlen(word), word) == 0) {
                next += std::strlen(word);
                return *word == 'T';
            }
        }
        fail("its header does not tell the order");
    }

    std::vector<std::int64_t> numbers() {
        std::vector<std::int64_t> found;
        expect('(');
        while (!take(')')) {
            std::int64_t value = 0;
            std::size_t const start = next;
            for (; next < source.size() && source[next] >= '0' && source[next] <= '9'; ++next) {
                value = value * 10 + (source[next] - '0');
                if (value > std::numeric_limits<std::int32_t>::max()) fail("a side of its shape is too long");
            }
            if (next == start) fail("its shape is no list of numbers");
            found.push_back(value);
            if (!take(',')) {
                expect(')');
                break;
            }
        }
        return found;
    }
};

Array read_npy(View file) {
    if (file.text(0, 6) != "\x93NUMPY") fail("it is no .npy array");
    std::uint32_t const version = file.number(6, 1);
    if (version < 1 || version > 3) fail("it is of a newer .npy format");
    std::size_t const width = version == 1 ? 2 : 4; // of the number that is the header's length
    std::size_t const length = file.number(8, width), start = 8 + width + length;
    std::string const text = file.text(8 + width, length);
    Header const header(text);
    Array array;
    array.shape = header.shape;
    std::size_t count = 1;
    if (header.descr == "<i8") {
        array.dtype = "int64", count = 8;
    } else if (header.descr == "<f4") {
        array.dtype = "float32", count = 4;
    } else {
        fail("it is of type '" + header.descr + "'; only int64 ('<i8') and float32 ('<f4') are read");
    }
    if (header.fortran) fail("it is in Fortran order; write numpy.ascontiguousarray of it");
    for (std::int64_t const side : array.shape) {
        auto const sides = static_cast<std::size_t>(side);
        if (sides != 0 && count > std::numeric_limits<std::size_t>::max() / sides) fail("its shape is too large");
        count *= sides;
    }
    if (file.size() - std::min(start, file.size()) != count) fail("its data do not fill its shape");
    View const data = file.part(start, count);
    array.data.assign(data.begin(), data.begin() + count);
    return array;
}

// Where the zip's list of entries ends: the last record of its kind, behind which only a comment may follow.
std::size_t end_record(View zip) {
    constexpr std::size_t kSize = 22, kComment = 65535;
    for (std::size_t back = kSize; back <= std::min(zip.size(), kSize + kComment); ++back) {
        std::size_t const at = zip.size() - back;
        if (zip.text(at, 4) == "PK\5\6" && zip.number(at + 20, 2) == back - kSize) return at;
    }
    fail("it is no .npz file, or not whole");
}

Arrays read_zip(View zip) {
    std::size_t const end = end_record(zip);
    std::size_t const count = zip.number(end + 10, 2);
    std::size_t at = zip.number(end + 16, 4);
    Arrays found;
    for (std::size_t i = 0; i < count; ++i) {
        if (zip.text(at, 4) != "PK\1\2") fail("its list of arrays is damaged");
        std::size_t const packed = zip.number(at + 20, 4), size = zip.number(at + 24, 4);
        std::size_t const name_length = zip.number(at + 28, 2);
        std::size_t const entry = zip.number(at + 42, 4);
        std::string name = zip.text(at + 46, name_length);
        if (zip.number(at + 10, 2) != 0 || packed != size) {
            fail("'" + name + "' is compressed; write it with numpy.savez");
        }
        if (size == 0xFFFFFFFFU || entry == 0xFFFFFFFFU) fail("'" + name + "' is larger than 4 GiB");
        if (zip.text(entry, 4) != "PK\3\4") fail("'" + name + "' is damaged");
        std::size_t const skip = 30 + zip.number(entry + 26, 2) + zip.number(entry + 28, 2);
        View const data = zip.part(entry + skip, size);
        if (crc32(data) != zip.number(at + 16, 4)) fail("'" + name + "' is damaged");
        if (name.size() > 4 && name.compare(name.size() - 4, 4, ".npy") == 0) name.resize(name.size() - 4);
        try {
            if (!found.emplace(name, read_npy(data)).second) fail("it is there twice");
        } catch (std::invalid_argument const& error) {
            fail("'" + name + "': " + error.what());
        }
        at += 46 + name_length + zip.number(at + 30, 2) + zip.number(at + 32, 2);
    }
    return found;
}

} // namespace

std::string shown(std::vector<std::int64_t> const& shape) {
    std::string found = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) found += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    return found + "]";
}

std::vector<char> read_bytes(std::filesystem::path const& path) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path, ignored)) throw wrong(path.string() + ": there is no such file.");
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    std::streamoff const size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
    std::vector<char> bytes(size < 0 ? 0 : static_cast<std::size_t>(size));
    file.seekg(0);
    if (size < 0 || !file.read(bytes.data(), size)) throw wrong(path.string() + ": cannot be read.");
    return bytes;
}

Arrays read_npz(std::filesystem::path const& path) {
    std::vector<char> const bytes = read_bytes(path);
    try {
        return read_zip({bytes.data(), bytes.size()});
    } catch (std::invalid_argument const& error) {
        throw wrong(path.string() + ": cannot be read as numpy.savez writes it: " + error.what() + ".");
    }
}

} // namespace app
