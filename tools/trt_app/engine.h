// The part that needs TensorRT and a GPU. engine.cpp has it; engine_none.cpp stands in where neither is at hand.
#pragma once

#include "npz.h"
#include "sidecar.h"

#include <vector>

namespace app {

// Runs the engine in `bytes` once and gives the logits, [batch, labels]. `inputs` and `profile` fit the sidecar.
// Throws Error when the library, the GPU or the engine does not fit.
std::vector<float> run(Sidecar const& sidecar, std::vector<char> const& bytes, Arrays const& inputs, int profile);

} // namespace app
