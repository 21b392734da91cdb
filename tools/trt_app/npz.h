// The arrays of an uncompressed .npz file, as numpy.savez writes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace app {

struct Array {
    std::string dtype; // "int64" or "float32"
    std::vector<std::int64_t> shape;
    std::vector<char> data; // C order
};

using Arrays = std::map<std::string, Array>;

// Throws Error for a file that is missing, damaged, compressed or holds arrays of another type.
Arrays read_npz(std::filesystem::path const& path);

// "[1, 3, 96, 96]"
std::string shown(std::vector<std::int64_t> const& shape);

// All bytes of a file; throws Error when it cannot be read.
std::vector<char> read_bytes(std::filesystem::path const& path);

} // namespace app
