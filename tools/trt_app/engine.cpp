#include "engine.h"

#include "error.h"

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <utility>

#ifndef TRT_APP_FLAVOUR
#error "TRT_APP_FLAVOUR has to be \"tensorrt\" or \"tensorrt-rtx\""
#endif

namespace app {
namespace {

// Keeps TensorRT's last error for a sentence to the user.
class Logger : public nvinfer1::ILogger {
public:
    void log(Severity severity, char const* message) noexcept override {
        if (severity > Severity::kERROR) return;
        try {
            last = message;
        } catch (...) { // out of memory: then without the reason
        }
    }

    std::string why() const { return last.empty() ? "it gave no reason" : last.substr(0, last.find('\n')); }

private:
    std::string last;
};

void cuda(cudaError_t status, char const* what) {
    if (status != cudaSuccess) {
        throw missing(std::string("the GPU cannot ") + what + ": " + cudaGetErrorString(status) + ".");
    }
}

struct Stream {
    cudaStream_t handle = nullptr;

    Stream() { cuda(cudaStreamCreate(&handle), "make a stream"); }
    ~Stream() { cudaStreamDestroy(handle); }
    Stream(Stream const&) = delete;
    Stream& operator=(Stream const&) = delete;
};

struct Buffer {
    void* data = nullptr;

    explicit Buffer(std::size_t size) { cuda(cudaMalloc(&data, size), "hold the inputs"); }
    ~Buffer() { cudaFree(data); }
    Buffer(Buffer const&) = delete;
    Buffer& operator=(Buffer const&) = delete;
};

nvinfer1::Dims dims(std::vector<std::int64_t> const& shape) {
    nvinfer1::Dims found{};
    for (std::int64_t const side : shape) found.d[found.nbDims++] = side;
    return found;
}

std::string library_version() {
    int const version = getInferLibVersion();
    auto part = [](int number) { return std::to_string(number); };
    return part(version / 10000) + "." + part(version / 100 % 100) + "." + part(version % 100);
}

void check_gpu(Sidecar const& sidecar) {
    int count = 0, device = 0, major = 0, minor = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        throw missing(sidecar.engine.string() + ": running an engine needs an NVIDIA GPU, and none is here.");
    }
    cuda(cudaGetDevice(&device), "be chosen");
    cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "tell what it is");
    cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "tell what it is");
    sidecar.check_capability(major, minor);
}

} // namespace

std::vector<float> run(Sidecar const& sidecar, std::vector<char> const& bytes, Arrays const& inputs, int profile) {
    std::string const name = sidecar.engine.string();
    if (sidecar.flavour != TRT_APP_FLAVOUR) {
        throw missing(
            name + ": an engine of " + sidecar.flavour + ", and this program was built for " + TRT_APP_FLAVOUR
            + "; build it with -DFLAVOUR=" + sidecar.flavour + ".");
    }
    sidecar.check_version(library_version());
    check_gpu(sidecar);

    Logger logger; // outlives all that TensorRT makes
    auto require = [&](bool is, std::string const& what) {
        if (!is) throw wrong(name + ": " + what + ": " + logger.why() + ".");
    };
    std::unique_ptr<nvinfer1::IRuntime> const runtime{nvinfer1::createInferRuntime(logger)};
    require(runtime != nullptr, "TensorRT cannot start");
    std::unique_ptr<nvinfer1::ICudaEngine> const engine{runtime->deserializeCudaEngine(bytes.data(), bytes.size())};
    require(engine != nullptr, sidecar.flavour + " cannot load it on this GPU; build it again here");
    std::unique_ptr<nvinfer1::IExecutionContext> const context{engine->createExecutionContext()};
    require(context != nullptr, "no context can be made, most likely for want of GPU memory");

    Stream const stream;
    require(context->setOptimizationProfileAsync(profile, stream.handle), "it has no such profile");
    std::vector<std::unique_ptr<Buffer>> held;
    for (auto const& [input, array] : inputs) {
        auto const type = array.dtype == "int64" ? nvinfer1::DataType::kINT64 : nvinfer1::DataType::kFLOAT;
        require(engine->getTensorDataType(input.c_str()) == type, "its " + input + " is not " + array.dtype);
        require(
            context->setInputShape(input.c_str(), dims(array.shape)), "it refuses " + input + " " + shown(array.shape));
        held.push_back(std::make_unique<Buffer>(array.data.size()));
        cuda(
            cudaMemcpyAsync(
                held.back()->data, array.data.data(), array.data.size(), cudaMemcpyHostToDevice, stream.handle),
            "take the inputs");
        require(context->setTensorAddress(input.c_str(), held.back()->data), "it has no input " + input);
    }

    std::int64_t const batch = inputs.at("input_ids").shape[0];
    auto const labels = static_cast<std::int64_t>(sidecar.labels.size());
    nvinfer1::Dims const shape = context->getTensorShape("logits");
    require(
        shape.nbDims == 2 && shape.d[0] == batch && shape.d[1] == labels
            && engine->getTensorDataType("logits") == nvinfer1::DataType::kFLOAT,
        "its logits are not what the sidecar says");
    std::vector<float> logits(static_cast<std::size_t>(batch * labels));
    Buffer const found(logits.size() * sizeof(float));
    require(context->setTensorAddress("logits", found.data), "it has no logits");
    require(context->enqueueV3(stream.handle), "it failed while it ran");
    cuda(
        cudaMemcpyAsync(
            logits.data(), found.data, logits.size() * sizeof(float), cudaMemcpyDeviceToHost, stream.handle),
        "give the logits");
    cuda(cudaStreamSynchronize(stream.handle), "run the engine");
    return logits;
}

} // namespace app
