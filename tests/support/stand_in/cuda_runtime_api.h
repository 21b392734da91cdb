// Stands in for CUDA's header, so that tools/trt_app/engine.cpp runs where there is no GPU: its memory is the host's.
#pragma once

#include <cstdlib>
#include <cstring>

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor };

// What the test wants of it, such as STAND_IN_GPUS=0
inline int wish(char const* name, int otherwise) {
    char const* const value = std::getenv(name);
    return value == nullptr ? otherwise : std::atoi(value);
}

inline char const* cudaGetErrorString(cudaError_t) { return "out of memory"; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = wish("STAND_IN_GPUS", 1), cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
    int const capability = wish("STAND_IN_CAPABILITY", 89);
    *value = which == cudaDevAttrComputeCapabilityMajor ? capability / 10 : capability % 10;
    return cudaSuccess;
}
inline cudaError_t cudaStreamCreate(cudaStream_t* stream) { return *stream = std::malloc(1), cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) { return std::free(stream), cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaMalloc(void** data, std::size_t size) {
    if (wish("STAND_IN_FULL", 0) != 0) return 2;
    return *data = std::malloc(size), cudaSuccess;
}
inline cudaError_t cudaFree(void* data) { return std::free(data), cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t size, cudaMemcpyKind, cudaStream_t) {
    return std::memcpy(to, from, size), cudaSuccess;
}
