#include "models/encoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

std::size_t RowBytes(const EncoderOutput& output) {
  std::size_t bytes = ItemSize(output.dtype);
  for (std::size_t i = 1; i < output.shape.size(); ++i) {
    bytes *= static_cast<std::size_t>(output.shape[i]);
  }
  return bytes;
}

// Most tokens of a source.
int SourceLength(const ShapePlan& shapes) {
  return shapes.roles.at("encoder").source_lengths.back();
}

}  // namespace

std::vector<EncoderOutput> CrossStates(std::span<const LayerState> states,
                                       const ShapePlan& shapes) {
  std::vector<EncoderOutput> outputs;
  for (std::size_t layer = 0; layer < states.size(); ++layer) {
    const LayerState& state = states[layer];
    for (const char* part : {".encoder.key", ".encoder.value"}) {
      const std::string name = std::to_string(layer) + part;
      outputs.push_back({"present." + name,
                         "past_key_values." + name,
                         state.dtype,
                         {shapes.batch, state.kv_heads, SourceLength(shapes), state.head_dim}});
    }
  }
  return outputs;
}

std::vector<EncoderOutput> HiddenStates(const Role& encoder, const ShapePlan& shapes) {
  constexpr const char* kName = "encoder_hidden_states";
  const Port* port = FindPort(encoder.outputs, kName);
  if (port != nullptr && port->last_size > 0) {
    return {{kName, kName, port->dtype, {shapes.batch, SourceLength(shapes), port->last_size}}};
  }
  throw Error(ErrorCode::kBundle, "The role 'encoder' gives no encoder_hidden_states.",
              "Export the bundle again.");
}

Encoder::Encoder(std::unique_ptr<Engine> engine, std::vector<EncoderOutput> outputs,
                 const ShapePlan& shapes)
    : engine_(std::move(engine)),
      memory_(engine_->memory()),
      batch_(shapes.batch),
      source_length_(SourceLength(shapes)),
      input_ids_(Size(batch_) * Size(source_length_) * sizeof(TokenId)),
      mask_(Size(batch_) * Size(source_length_)),
      read_mask_(Size(batch_) * Size(source_length_)) {
  std::vector<Tensor> bound;
  for (const EncoderOutput& output : outputs) {
    State& state = states_.emplace_back();
    state.row_bytes = RowBytes(output);
    state.written_block = Block(memory_, Size(batch_) * state.row_bytes);
    state.read_block = Block(memory_, Size(batch_) * state.row_bytes);
    state.read = {output.read, output.dtype, state.read_block.data(), output.shape};
    bound.push_back({output.written, output.dtype, state.written_block.data(), output.shape});
  }
  // A row without a source sees one token of padding, because attention over a fully masked row may
  // give NaN.
  for (int row = 0; row < batch_; ++row) {
    mask_.As<bool>()[Size(row) * Size(source_length_)] = true;
    read_mask_.As<bool>()[Size(row) * Size(source_length_)] = true;
  }
  const std::vector<Tensor> inputs = {
      PortOf(input_ids_, "input_ids", DType::kInt64, {batch_, source_length_}),
      PortOf(mask_, "encoder_attention_mask", DType::kBool, {batch_, source_length_}),
  };
  call_ = engine_->Bind(inputs, bound);
}

void Encoder::Encode(std::span<const Source> sources) {
  Wait();  // In case the last round failed before its Wait.
  engine_seconds_ = 0;
  if (sources.empty()) return;
  for (const Source& source : sources) Fill(source);
  const Clock::time_point start = Clock::now();
  call_->Start();
  is_started_ = true;
  engine_seconds_ = SecondsSince(start);
  for (const Source& source : sources) KeepRow(source.row);
}

void Encoder::Wait() {
  if (!std::exchange(is_started_, false)) return;
  const Clock::time_point start = Clock::now();
  call_->Wait();
  engine_seconds_ += SecondsSince(start);
}

void Encoder::Fill(const Source& source) {
  const std::size_t length = Size(source_length_);
  const std::size_t count = source.tokens.size();
  TokenId* ids = input_ids_.As<TokenId>() + Size(source.row) * length;
  bool* mask = mask_.As<bool>() + Size(source.row) * length;
  std::copy(source.tokens.begin(), source.tokens.end(), ids);
  std::fill(ids + count, ids + length, 0);
  std::fill(mask, mask + count, true);
  std::fill(mask + count, mask + length, false);
}

void Encoder::KeepRow(int row) {
  const std::size_t length = Size(source_length_);
  std::memcpy(read_mask_.As<bool>() + Size(row) * length, mask_.As<bool>() + Size(row) * length,
              length);
  for (const State& state : states_) Copy(state, state.written_block, row, row);
}

void Encoder::CopyRow(int from, int to) {
  const std::size_t length = Size(source_length_);
  std::memcpy(read_mask_.As<bool>() + Size(to) * length,
              read_mask_.As<bool>() + Size(from) * length, length);
  for (const State& state : states_) Copy(state, state.read_block, from, to);
}

void Encoder::Copy(const State& state, const Block& from, int from_row, int to_row) {
  memory_->Copy({state.read_block.At(Size(to_row) * state.row_bytes), 0,
                 from.At(Size(from_row) * state.row_bytes), 0, state.row_bytes, 1});
}

std::vector<Tensor> Encoder::Ports() const {
  std::vector<Tensor> ports;
  for (const State& state : states_) ports.push_back(state.read);
  ports.push_back(
      PortOf(read_mask_, "encoder_attention_mask", DType::kBool, {batch_, source_length_}));
  return ports;
}

}  // namespace ptgc
