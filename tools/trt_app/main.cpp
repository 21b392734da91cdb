// Loads an engine and its sidecar, runs a file of preprocessed inputs and prints the top answers.

#include "answers.h"
#include "engine.h"
#include "error.h"
#include "npz.h"
#include "sidecar.h"

#include <charconv>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace {

using app::Array;
using app::Arrays;
using app::Sidecar;
using app::wrong;

char const* const kUsage = R"(usage: trt_app [options] ENGINE INPUT.npz

Runs ENGINE, which its sidecar ENGINE.json tells about, on the arrays in INPUT.npz (numpy.savez): input_ids and
attention_mask, int64 [batch, text], and the pictures: pixel_values, float32 [batch, ...], or patches, float32
[batch, patches, ...] and patch_grid, int64 [batch, 2]. tools/trt_app/trt_input.py writes such a file.

  --top N            how many answers to print (3)
  --check            stop before the GPU: say which profile would run
  --logits FILE.npz  print the answers of these logits, float32 [batch, labels], and run nothing
  --help

Exit codes: 0 done, 1 a bug, 2 a wrong option or file, 4 a missing library or GPU.
)";

struct Options {
    std::string engine, input, logits;
    std::size_t top = 3;
    bool check = false, help = false;
};

Options parse(std::vector<std::string> const& words) {
    Options found;
    std::vector<std::string> files;
    auto fail = [](std::string const& what) { return wrong(what + " See trt_app --help."); };
    for (std::size_t i = 0; i < words.size(); ++i) {
        std::string const& word = words[i];
        if (word == "--help") {
            found.help = true;
        } else if (word == "--check") {
            found.check = true;
        } else if (word == "--top" || word == "--logits") {
            if (++i == words.size()) throw fail("a value is missing after " + word + ".");
            std::string const& value = words[i];
            if (word == "--logits") {
                found.logits = value;
                continue;
            }
            auto const [end, error] = std::from_chars(value.data(), value.data() + value.size(), found.top);
            if (error != std::errc() || end != value.data() + value.size() || found.top == 0) {
                throw fail("--top takes a number from 1 on, not '" + value + "'.");
            }
        } else if (word.size() > 1 && word[0] == '-') {
            throw fail("there is no option '" + word + "'.");
        } else {
            files.push_back(word);
        }
    }
    if (found.help) return found;
    if (files.size() != 2) throw fail("give an engine and a file of inputs.");
    if (found.check && !found.logits.empty()) throw fail("either --check or --logits.");
    found.engine = files[0], found.input = files[1];
    return found;
}

Array const& pick(Arrays const& arrays, std::string const& name, std::string const& dtype, std::string const& file) {
    auto const found = arrays.find(name);
    if (found == arrays.end()) throw wrong(file + ": it has no array '" + name + "'.");
    if (found->second.dtype != dtype) {
        throw wrong(file + ": " + name + " is " + found->second.dtype + "; it has to be " + dtype + ".");
    }
    return found->second;
}

// The inputs, checked against each other and against the sidecar; and the sizes of their dynamic sides.
std::pair<Arrays, app::Sizes> read_inputs(std::string const& file, Sidecar const& sidecar) {
    Arrays arrays = app::read_npz(file);
    for (app::Input const& input : sidecar.inputs) pick(arrays, input.name, input.dtype, file);
    if (arrays.size() != sidecar.inputs.size()) throw wrong(file + ": it has other arrays beside the inputs.");
    Array const &ids = arrays.at("input_ids"), &mask = arrays.at("attention_mask");
    if (ids.shape.size() != 2 || mask.shape != ids.shape) {
        throw wrong(
            file + ": input_ids and attention_mask are both [batch, text], not " + app::shown(ids.shape) + " and "
            + app::shown(mask.shape) + ".");
    }
    app::Sizes sizes{{"batch", ids.shape[0]}, {"text", ids.shape[1]}};
    for (app::Input const& input : sidecar.inputs) {
        std::vector<std::int64_t> const& shape = arrays.at(input.name).shape;
        std::vector<std::int64_t> expected;
        for (std::size_t i = 0; i < input.shape.size(); ++i) {
            app::Side const& side = input.shape[i];
            // The first input with a dynamic side says how long it is.
            if (!side.name.empty()) sizes.emplace(side.name, i < shape.size() ? shape[i] : 0);
            expected.push_back(side.name.empty() ? side.size : sizes.at(side.name));
        }
        if (shape != expected) {
            throw wrong(
                file + ": " + input.name + " has to be " + app::shown(expected) + " here, not " + app::shown(shape)
                + ".");
        }
    }
    return {std::move(arrays), sizes};
}

std::vector<float> read_logits(std::string const& file, std::int64_t batch, std::int64_t labels) {
    Arrays const arrays = app::read_npz(file);
    Array const& array = pick(arrays, "logits", "float32", file);
    if (std::vector<std::int64_t> const expected{batch, labels}; array.shape != expected) {
        throw wrong(file + ": logits has to be " + app::shown(expected) + ", not " + app::shown(array.shape) + ".");
    }
    std::vector<float> found(array.data.size() / sizeof(float));
    std::memcpy(found.data(), array.data.data(), array.data.size());
    return found;
}

// All that needs no GPU comes first, so that a wrong file is told of everywhere.
void run(Options const& options) {
    Sidecar const sidecar = Sidecar::of(options.engine);
    auto const [inputs, sizes] = read_inputs(options.input, sidecar);
    int const profile = sidecar.profile(sizes);
    std::vector<char> const bytes = app::read_bytes(sidecar.engine);
    sidecar.check_engine(bytes);
    if (options.check) {
        std::cout << "profile " << profile;
        for (auto const& [name, size] : sizes) std::cout << ", " << name << " " << size;
        std::cout << "\n";
        return;
    }
    auto const labels = static_cast<std::int64_t>(sidecar.labels.size());
    std::vector<float> const logits = options.logits.empty() ? app::run(sidecar, bytes, inputs, profile)
                                                             : read_logits(options.logits, sizes.at("batch"), labels);
    app::print(std::cout, logits, sidecar.labels, sidecar.task, options.top);
}

} // namespace

int main(int count, char** words) {
    try {
        Options const options = parse({words + 1, words + count});
        if (options.help) {
            std::cout << kUsage;
        } else {
            run(options);
        }
        std::cout.flush();
        return std::cout ? 0 : throw wrong("the answers cannot be written.");
    } catch (app::Error const& error) {
        std::cerr << "Error: " << error.what() << "\n";
        return error.code;
    } catch (std::bad_alloc const&) {
        std::cerr << "Error: a file is larger than the memory.\n";
        return 2;
    } catch (std::exception const& error) {
        std::cerr << "Error: " << error.what() << "\n";
        return 1;
    }
}
