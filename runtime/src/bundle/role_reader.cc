#include "bundle/role_reader.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ptgc {
namespace {

using nlohmann::json;

// The settings of ONNX Runtime that builds may have, with their values (ptgc.spec.engine_options).
// Others could make it write files or load libraries.
constexpr std::array<std::pair<std::string_view, std::string_view>, 1> kEngineOptions = {
    {{"optimization.disable_specified_optimizers", "GatherToSliceFusion"}}};

// Reads the dimensions of a port: names or numbers.
void ReadShape(const Fields& data, Port& port) {
  constexpr Range kSize{1, limits::kContextLength.most};
  const json* shape = data.Find("shape");
  if (shape == nullptr || !shape->is_array() || shape->size() > limits::kRank) {
    return data.Add("shape",
                    " must be a list of at most " + std::to_string(limits::kRank) + " sizes.");
  }
  for (const json& size : *shape) {
    const std::optional<std::int64_t> number = IntegerIn(size, kSize);
    port.last_size = number.value_or(0);
    port.dimensions.push_back(size.is_string() ? size.get<std::string>() : "");
    if (number.has_value() || size.is_string()) continue;
    data.Add("shape", " has a size that is neither a name nor a number above 0.");
  }
}

std::vector<Port> ReadPorts(const Fields& ports, const char* name) {
  std::vector<Port> result;
  for (const Fields& data : ports.List(name)) {
    Port port;
    port.name = data.Text("name");
    port.dtype = data.Choice<DType>("dtype");
    ReadShape(data, port);
    const bool is_new = std::none_of(result.begin(), result.end(),
                                     [&](const Port& other) { return other.name == port.name; });
    if (!is_new) data.Add("name", " is '" + port.name + "', which is there already.");
    result.push_back(std::move(port));
  }
  return result;
}

std::optional<SharedLayer> ReadSharedLayer(const Fields& data) {
  if (data.Find("shared_with") == nullptr) return std::nullopt;
  const Fields shared = data.Object("shared_with");
  return SharedLayer{shared.Text("role"),
                     static_cast<int>(shared.Integer("layer", {0, limits::kStates - 1}))};
}

LayerState ReadState(const Fields& data) {
  LayerState state;
  state.kind = data.Choice<StateKind>("kind");
  state.kv_heads = static_cast<int>(data.Integer("kv_heads", limits::kHeads));
  state.head_dim = static_cast<int>(data.Integer("head_dim", limits::kHeads));
  state.dtype = data.Choice<DType>("dtype");
  state.window = static_cast<int>(data.OptionalInteger("window", limits::kWindow).value_or(0));
  state.shared_with = ReadSharedLayer(data);
  if (state.kind == StateKind::kWindow && state.window == 0) data.Add("window", " is missing.");
  return state;
}

std::vector<LayerState> ReadStates(const Fields& data, const char* name, bool may_be_absent) {
  std::vector<LayerState> states;
  const std::vector<Fields> layers = data.List(name, may_be_absent);
  if (layers.size() > static_cast<std::size_t>(limits::kStates)) {
    data.Add(name, " has more than " + std::to_string(limits::kStates) + " layers.");
    return states;
  }
  for (const Fields& layer : layers) states.push_back(ReadState(layer));
  return states;
}

}  // namespace

Role ReadRole(const Fields& data) {
  Role role;
  const Fields ports = data.Object("ports");
  role.inputs = ReadPorts(ports, "inputs");
  role.outputs = ReadPorts(ports, "outputs");
  role.states = ReadStates(data, "states", /*may_be_absent=*/false);
  role.cross_states = ReadStates(data, "cross_states", /*may_be_absent=*/true);
  role.context_length = data.OptionalInteger("context_length", limits::kContextLength);
  const json* attention = data.Find("attention");
  if (attention != nullptr && !attention->is_null()) {
    role.attention = data.Choice<AttentionKind>("attention");
  }
  role.mask_extra =
      static_cast<int>(data.OptionalInteger("mask_extra", limits::kMaskExtra).value_or(0));
  for (const Port& port : role.outputs) {
    if (port.name == "logits") role.vocab_size = port.last_size;
  }
  return role;
}

std::map<std::string, std::string> ReadEngineOptions(const Fields& options, const char* role) {
  std::map<std::string, std::string> read;
  for (const auto& [name, value] : options.Texts(role)) {
    const auto known = std::pair(std::string_view(name), std::string_view(value));
    if (std::find(kEngineOptions.begin(), kEngineOptions.end(), known) == kEngineOptions.end()) {
      options.Add(role, " sets '" + name + "' to '" + value + "', which no build of ptgc does.");
    }
    read[name] = value;
  }
  return read;
}

}  // namespace ptgc
