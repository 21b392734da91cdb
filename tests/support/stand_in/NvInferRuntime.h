// Stands in for TensorRT's header (see cuda_runtime_api.h): of its names those that engine.cpp uses, and an engine that
// computes the graph of test_trt_app.py. What is used in a wrong order ends the program.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <string>

inline int getInferLibVersion() { return wish("STAND_IN_VERSION", 0); }

namespace nvinfer1 {

inline void demand(bool is) {
    if (!is) std::abort();
}

enum class DataType { kFLOAT, kINT64 };

struct Dims {
    std::int32_t nbDims;
    std::int64_t d[8];
};

class ILogger {
public:
    enum class Severity { kINTERNAL_ERROR, kERROR, kWARNING };
    virtual void log(Severity severity, char const* message) noexcept = 0;
    virtual ~ILogger() = default;
};

class IExecutionContext {
public:
    IExecutionContext(ILogger& logger, int& contexts) : logger(logger), contexts(contexts) { ++contexts; }
    ~IExecutionContext() { --contexts; }

    bool setOptimizationProfileAsync(int profile, cudaStream_t stream) {
        chosen = stream != nullptr && profile == wish("STAND_IN_PROFILE", profile);
        return profile < 2;
    }
    bool setInputShape(char const* name, Dims const& dims) {
        demand(chosen);
        return shapes[name] = dims, dims.nbDims > 1;
    }
    bool setTensorAddress(char const* name, void* data) { return addresses[name] = data, data != nullptr; }
    Dims getTensorShape(char const*) { return {2, {shapes["input_ids"].d[0], labels()}}; }

    bool enqueueV3(cudaStream_t stream) {
        demand(stream != nullptr && addresses.size() == 4 && shapes.size() == 3);
        if (wish("STAND_IN_FAILS", 0) != 0) {
            logger.log(ILogger::Severity::kERROR, "a kernel failed\nand more");
            return logger.log(ILogger::Severity::kWARNING, "some talk"), false;
        }
        auto const* ids = static_cast<std::int64_t const*>(addresses["input_ids"]);
        auto const* mask = static_cast<std::int64_t const*>(addresses["attention_mask"]);
        auto const* pixels = static_cast<float const*>(addresses["pixel_values"]);
        auto* logits = static_cast<float*>(addresses["logits"]);
        Dims const text = shapes["input_ids"], picture = shapes["pixel_values"];
        std::int64_t const area = picture.d[1] * picture.d[2] * picture.d[3];
        for (std::int64_t row = 0; row < text.d[0]; ++row) {
            double both = 0;
            for (std::int64_t i = 0; i < text.d[1]; ++i, ++ids, ++mask) both += static_cast<double>(*ids * *mask);
            for (std::int64_t i = 0; i < area; ++i, ++pixels) both += *pixels / static_cast<double>(area);
            for (int i = 0; i < labels(); ++i) *logits++ = static_cast<float>(both * (2.0 * i / (labels() - 1) - 1));
        }
        return true;
    }

private:
    ILogger& logger;
    int& contexts;
    bool chosen = false;
    std::map<std::string, Dims> shapes;
    std::map<std::string, void*> addresses;
    static int labels() { return wish("STAND_IN_LABELS", 2); }
};

class ICudaEngine {
public:
    explicit ICudaEngine(ILogger& logger) : logger(logger) {}
    ~ICudaEngine() { demand(contexts == 0); }
    IExecutionContext* createExecutionContext() { return new IExecutionContext(logger, contexts); }
    DataType getTensorDataType(char const* name) {
        return std::string(name) == "pixel_values" || std::string(name) == "logits" ? DataType::kFLOAT
                                                                                    : DataType::kINT64;
    }

private:
    ILogger& logger;
    int contexts = 0;
};

class IRuntime {
public:
    explicit IRuntime(ILogger& logger) : logger(logger) {}
    ICudaEngine* deserializeCudaEngine(void const*, std::size_t) {
        return wish("STAND_IN_STRANGE", 0) != 0 ? nullptr : new ICudaEngine(logger);
    }

private:
    ILogger& logger;
};

inline IRuntime* createInferRuntime(ILogger& logger) { return new IRuntime(logger); }

} // namespace nvinfer1
