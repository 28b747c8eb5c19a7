#include "encoder.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "clock.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

Encoder::Encoder(std::unique_ptr<Engine> engine, std::vector<LayerState> cross_states,
                 const ShapePlan& shapes)
    : engine_(std::move(engine)),
      batch_(shapes.batch),
      source_length_(shapes.source_lengths.back()),
      input_ids_(Size(batch_) * Size(source_length_) * sizeof(TokenId)),
      mask_(Size(batch_) * Size(source_length_)),
      read_mask_(Size(batch_) * Size(source_length_)) {
  constexpr const char* kParts[] = {".encoder.key", ".encoder.value"};
  states_.reserve(cross_states.size() * 2);
  std::vector<Tensor> outputs;
  for (std::size_t layer = 0; layer < cross_states.size(); ++layer) {
    const LayerState& state = cross_states[layer];
    for (const char* part : kParts) {
      State& made = states_.emplace_back();
      made.row_bytes = Size(state.kv_heads) * Size(source_length_) * Size(state.head_dim) *
                       ItemSize(state.dtype);
      made.written_buffer = Buffer(Size(batch_) * made.row_bytes);
      made.read_buffer = Buffer(Size(batch_) * made.row_bytes);
      const std::vector<std::int64_t> shape = {batch_, state.kv_heads, source_length_,
                                               state.head_dim};
      const std::string name = std::to_string(layer) + part;
      made.written = {"present." + name, state.dtype, made.written_buffer.data(), shape};
      made.read = {"past_key_values." + name, state.dtype, made.read_buffer.data(), shape};
      outputs.push_back(made.written);
    }
  }
  // A row without a source sees one token of padding: a fully masked row may be NaN elsewhere.
  for (int row = 0; row < batch_; ++row) {
    mask_.As<bool>()[Size(row) * Size(source_length_)] = true;
    read_mask_.As<bool>()[Size(row) * Size(source_length_)] = true;
  }
  const std::vector<Tensor> inputs = {
      {"input_ids", DType::kInt64, input_ids_.data(), {batch_, source_length_}},
      {"encoder_attention_mask", DType::kBool, mask_.data(), {batch_, source_length_}},
  };
  call_ = engine_->Bind(inputs, outputs);
}

void Encoder::Encode(int row, std::span<const TokenId> source) {
  const std::size_t length = Size(source_length_);
  TokenId* ids = input_ids_.As<TokenId>() + Size(row) * length;
  bool* mask = mask_.As<bool>() + Size(row) * length;
  std::copy(source.begin(), source.end(), ids);
  std::fill(ids + source.size(), ids + length, 0);
  std::fill(mask, mask + source.size(), true);
  std::fill(mask + source.size(), mask + length, false);
  const Clock::time_point start = Clock::now();
  call_->Run();
  engine_seconds_ = SecondsSince(start);
  std::memcpy(read_mask_.As<bool>() + Size(row) * length, mask, length);
  for (State& state : states_) {
    std::memcpy(state.read_buffer.As<char>() + Size(row) * state.row_bytes,
                state.written_buffer.As<char>() + Size(row) * state.row_bytes, state.row_bytes);
  }
}

void Encoder::CopyRow(int from, int to) {
  const std::size_t length = Size(source_length_);
  std::memcpy(read_mask_.As<bool>() + Size(to) * length,
              read_mask_.As<bool>() + Size(from) * length, length);
  for (State& state : states_) {
    std::memcpy(state.read_buffer.As<char>() + Size(to) * state.row_bytes,
                state.read_buffer.As<char>() + Size(from) * state.row_bytes, state.row_bytes);
  }
}

std::vector<Tensor> Encoder::Ports() const {
  std::vector<Tensor> ports;
  for (const State& state : states_) ports.push_back(state.read);
  ports.push_back(
      {"encoder_attention_mask", DType::kBool, read_mask_.data(), {batch_, source_length_}});
  return ports;
}

}  // namespace ptgc
