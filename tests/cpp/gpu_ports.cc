#include "gpu_ports.h"

#include <cstddef>
#include <utility>

namespace ptgc {

NamedPort MakePort(const std::string& name, DType dtype, bool is_input,
                   std::vector<std::int64_t> most, std::vector<std::string> dimensions) {
  GpuPort port{name, dtype, is_input, most, most, most};
  for (std::size_t i = 0; i < most.size(); ++i) {
    if (dimensions[i].empty()) continue;
    port.shape[i] = -1;
    port.least[i] = 1;
  }
  return {std::move(port), std::move(dimensions)};
}

std::vector<NamedPort> CausalGpuPorts(const Bundle& bundle, const std::string& name,
                                      bool has_window) {
  const Role& role = bundle.roles.at(name);
  const RoleShapes& shapes = bundle.shapes.roles.at(name);
  const std::int64_t batch = bundle.shapes.batch, width = shapes.widths.back();
  const std::int64_t logits = shapes.LogitsFor(shapes.widths.back());
  const auto input = [&](const char* name, DType dtype, std::vector<std::int64_t> most,
                         std::vector<std::string> dimensions) {
    return MakePort(name, dtype, true, std::move(most), std::move(dimensions));
  };
  std::vector<NamedPort> ports = {
      input("input_ids", DType::kInt64, {batch, width}, {"", "num_tokens"}),
      input("position_ids", DType::kInt64, {batch, width}, {"", "num_tokens"}),
      input("tree_mask", DType::kBool, {batch, width, width}, {"", "num_tokens", "mask_slots"}),
      input("mask_start", DType::kInt64, {batch}, {""}),
      input("write_index", DType::kInt64, {batch}, {""}),
      input("row_count", DType::kInt64, {batch}, {""}),
      input("logits_rows", DType::kInt64, {batch, logits}, {"", "num_logits"}),
      MakePort("next_ids", DType::kInt64, false, {batch, logits}, {"", "num_logits"}),
      MakePort("logits", DType::kFloat32, false, {batch, logits, role.vocab_size},
               {"", "num_logits", ""}),
  };
  if (has_window) ports.push_back(input("window_offset", DType::kInt64, {batch}, {""}));
  for (std::size_t layer = 0; layer < role.states.size(); ++layer) {
    const LayerState& state = role.states[layer];
    const std::vector<std::int64_t> most = {batch, state.kv_heads, shapes.kv_capacities.back(),
                                            state.head_dim};
    for (const char* part : {".key", ".value"}) {
      const std::string port = std::to_string(layer) + part;
      const std::vector<std::string> dimensions = {"", "", "kv_capacity", ""};
      ports.push_back(MakePort("past_key_values." + port, state.dtype, true, most, dimensions));
      ports.push_back(MakePort("present." + port, state.dtype, false, most, dimensions));
    }
  }
  return ports;
}

}  // namespace ptgc
