#include "sidecar.h"

#include "error.h"
#include "json.h"
#include "npz.h"
#include "sha256.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <stdexcept>

namespace app {
namespace {

std::string joined(std::vector<std::string> const& words, char const* between) {
    std::string found;
    for (std::string const& word : words) found += (found.empty() ? "" : between) + word;
    return found;
}

void require(bool is, std::string const& otherwise) {
    if (!is) throw std::invalid_argument(otherwise);
}

// id2label, in the order of the ids; retrieval has one logit and no names
std::vector<std::string> labels_of(Json const& values, std::string const& task) {
    if (task == "retrieval") return {"match"};
    std::map<int, std::string> named;
    if (values.at("labels").kind != Json::Kind::null) {
        for (auto const& [key, label] : values.at("labels").as_object()) {
            int id = 0;
            auto const [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
            require(error == std::errc() && end == key.data() + key.size(), "the label '" + key + "' has no number");
            require(named.emplace(id, label.as_string()).second, "two labels have the number " + key);
        }
    }
    std::vector<std::string> found;
    for (auto const& [id, label] : named) found.push_back(label);
    return found;
}

Profile profile_of(Json const& shapes, std::vector<Input> const& inputs) {
    Profile found;
    for (Input const& input : inputs) {
        for (std::size_t place = 0; place < input.shape.size(); ++place) {
            std::string const& name = input.shape[place].name;
            if (name.empty() || found.count(name) == 1) continue;
            auto& side = found[name];
            for (std::size_t i = 0; i < 3; ++i) side[i] = shapes.at(input.name).at(i).at(place).as_integer();
            require(1 <= side[0] && side[0] <= side[1] && side[1] <= side[2], "a profile does not rise from 1");
        }
    }
    return found;
}

std::vector<Input> inputs_of(Json const& values) {
    std::vector<Input> found;
    for (Json const& value : values.as_array()) {
        Input input{value.at("name").as_string(), value.at("dtype").as_string(), {}};
        require(input.dtype == "int64" || input.dtype == "float32", input.name + " has a strange type");
        for (Json const& side : value.at("shape").as_array()) {
            bool const named = side.kind == Json::Kind::string;
            input.shape.push_back({named ? side.as_string() : "", named ? 0 : side.as_integer()});
        }
        found.push_back(input);
    }
    for (char const* name : {"input_ids", "attention_mask"}) {
        auto const text = std::find_if(found.begin(), found.end(), [&](Input const& i) { return i.name == name; });
        require(text != found.end(), std::string("it has no input '") + name + "'");
        require(text->dtype == "int64", std::string(name) + " is not int64");
        require(
            text->shape.size() == 2 && text->shape[0].name == "batch" && text->shape[1].name == "text",
            std::string(name) + " has a strange shape");
    }
    require(found.size() > 2, "it takes no picture");
    return found;
}

Sidecar read(Json const& values, std::filesystem::path const& engine) {
    Sidecar found;
    found.engine = engine;
    found.flavour = values.at("flavour").as_string();
    require(found.flavour == "tensorrt" || found.flavour == "tensorrt-rtx", "no such flavour: " + found.flavour);
    found.version = values.at("tensorrt_version").as_string();
    found.task = values.at("task").as_string();
    Json const& file = values.at("engine");
    if (file.as_object().count("sha256") == 1) found.sha256 = file.at("sha256").as_string();
    found.version_compatible = values.is_true("version_compatible");
    found.hardware_compatible = values.is_true("hardware_compatible");
    found.stripped = values.is_true("stripped");
    Json const& targets = values.at("compute_capabilities");
    found.any_capability = targets.kind == Json::Kind::string; // told in words
    if (!found.any_capability) {
        for (Json const& target : targets.as_array()) found.capabilities.push_back(target.as_string());
    }
    found.inputs = inputs_of(values.at("inputs"));
    Json const& logits = values.at("outputs").at(0);
    require(logits.at("name").as_string() == "logits", "its first output is not 'logits'");
    require(logits.at("dtype").as_string() == "float32", "its logits are not float32");
    found.labels = labels_of(values, found.task);
    std::int64_t const count = logits.at("shape").at(1).as_integer();
    if (found.labels.empty()) {
        throw wrong(engine.string() + ": nothing names its labels (id2label); add them to the checkpoint's config.json.");
    }
    require(static_cast<std::int64_t>(found.labels.size()) == count, "it names another number of labels than logits");
    for (Json const& profile : values.at("profiles").as_array()) {
        found.profiles.push_back(profile_of(profile, found.inputs));
    }
    require(!found.profiles.empty(), "it has no profile");
    return found;
}

} // namespace

Sidecar Sidecar::of(std::filesystem::path const& engine) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(engine, ignored)) {
        throw wrong(engine.string() + ": there is no such engine.");
    }
    std::filesystem::path const file = engine.string() + ".json";
    if (!std::filesystem::is_regular_file(file, ignored)) {
        throw wrong(
            engine.string() + ": its sidecar " + file.filename().string()
            + " is missing; copy it along, or export once more.");
    }
    std::vector<char> const bytes = read_bytes(file);
    try {
        Json const values = Json::parse({bytes.begin(), bytes.end()});
        std::int64_t const format = values.at("format").as_integer();
        if (format != 1) {
            throw wrong(
                file.string() + ": written by a newer pumer-convert (format " + std::to_string(format)
                + "); build this program anew from that version.");
        }
        return read(values, engine);
    } catch (std::invalid_argument const& error) {
        throw wrong(
            file.string() + ": not a sidecar that pumer-convert wrote (" + error.what()
            + "); export the engine once more.");
    }
}

int Sidecar::profile(Sizes const& sizes) const {
    int nearest = -1;
    double least = 0;
    std::string ranges, asked;
    for (std::size_t i = 0; i < profiles.size(); ++i) {
        double distance = 0;
        bool holds = true;
        std::string range;
        for (auto const& [name, side] : profiles[i]) {
            std::int64_t const here = sizes.at(name);
            holds = holds && side[0] <= here && here <= side[2];
            distance += static_cast<double>(std::llabs(here - side[1])) / static_cast<double>(side[1]);
            range += (range.empty() ? "" : " with ") + name + " " + std::to_string(side[0]) + " to "
                     + std::to_string(side[2]);
        }
        if (holds && (nearest < 0 || distance < least)) nearest = static_cast<int>(i), least = distance;
        ranges += (i == 0 ? "" : " or ") + range;
    }
    if (nearest < 0) {
        for (auto const& [name, size] : sizes) {
            asked += (asked.empty() ? "" : " with ") + name + " " + std::to_string(size);
        }
        throw wrong(engine.string() + ": " + asked + " is outside of it; it takes " + ranges + ".");
    }
    return nearest;
}

void Sidecar::check_engine(std::vector<char> const& bytes) const {
    if (!sha256.empty() && app::sha256(bytes) != sha256) {
        throw wrong(
            engine.string() + ": not the engine of its sidecar, or damaged; copy both again or export anew.");
    }
    if (stripped) {
        throw wrong(
            engine.string() + ": built without its weights, which this program does not put in; build it with them.");
    }
}

void Sidecar::check_version(std::string const& here) const {
    // Some versions end in a build number, which the library's headers do not always know.
    if (version_compatible || version == here || version.compare(0, here.size() + 1, here + ".") == 0) return;
    throw missing(
        engine.string() + ": built by " + flavour + " " + version + ", and " + here
        + " is here; install that version or build the engine again.");
}

void Sidecar::check_capability(int major, int minor) const {
    std::string const here = std::to_string(major) + "." + std::to_string(minor);
    bool fits = std::find(capabilities.begin(), capabilities.end(), here) != capabilities.end();
    if (any_capability) fits = major >= 8;
    if (flavour == "tensorrt") fits = fits || capabilities.empty() || hardware_compatible;
    if (!fits) {
        throw missing(
            engine.string() + ": built for compute capability "
            + (any_capability ? "8.0 and later" : joined(capabilities, ", ")) + ", and this GPU is " + here
            + "; build it for this one.");
    }
}

} // namespace app
