// The JSON file beside an engine, as pumer_convert.runtime.sidecar reads it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace app {

struct Side { // of a shape: a number, or a dynamic one by its name
    std::string name;
    std::int64_t size = 0;
};

struct Input {
    std::string name, dtype;
    std::vector<Side> shape;
};

using Sizes = std::map<std::string, std::int64_t>; // of the dynamic sides: batch, text and perhaps patches
using Profile = std::map<std::string, std::array<std::int64_t, 3>>; // smallest, fastest, largest of each

struct Sidecar {
    std::filesystem::path engine;
    std::string flavour; // "tensorrt" or "tensorrt-rtx"
    std::string version; // of the library that built the engine
    std::string task;
    std::string sha256;  // of the engine; empty: not told
    bool version_compatible = false, hardware_compatible = false, stripped = false;
    std::vector<std::string> capabilities; // such as "8.6"
    bool any_capability = false;           // TensorRT-RTX without targets: every GPU from 8.0 on
    std::vector<Input> inputs;
    std::vector<std::string> labels;       // names of the logits
    std::vector<Profile> profiles;

    // Reads ENGINE.json. Throws Error when it is missing or none of ours.
    static Sidecar of(std::filesystem::path const& engine);

    // The profile for some sizes: of those that hold them, the one made for the nearest. Throws Error for none.
    int profile(Sizes const& sizes) const;

    // These throw Error when the engine cannot run: its bytes are others, or it was built by another version of the
    // library ("10.13.0"), or for another GPU.
    void check_engine(std::vector<char> const& bytes) const;
    void check_version(std::string const& here) const;
    void check_capability(int major, int minor) const;
};

} // namespace app
