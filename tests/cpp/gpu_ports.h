// The ports of engines on a GPU, as a compiler would have made them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bundle/bundle.h"
#include "engines/gpu/gpu.h"

namespace ptgc {

// A port whose varying sizes have names.
struct NamedPort {
  GpuPort port;                         // As the runtime sees it.
  std::vector<std::string> dimensions;  // A name for each size; empty where it is fixed.
};

// The ports of a language model of these shapes, those of docs/bundle.md. Its states are the
// role's.
std::vector<NamedPort> CausalGpuPorts(const Bundle& bundle, const std::string& name,
                                      bool has_window);
// A port of a fixed batch whose other sizes go up to these; `least` is 1.
NamedPort MakePort(const std::string& name, DType dtype, bool is_input,
                   std::vector<std::int64_t> most, std::vector<std::string> dimensions);

}  // namespace ptgc
