// An engine whose graph is a function of its ports.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/token.h"
#include "engines/engine.h"

namespace ptgc {

// What a call is bound to.
class BoundPorts {
 public:
  BoundPorts(std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
    for (const Tensor& tensor : inputs) {
      tensors_[tensor.name] = tensor;
      pieces_.insert(pieces_.end(), tensor.pieces.begin(), tensor.pieces.end());
    }
    for (const Tensor& tensor : outputs) tensors_[tensor.name] = tensor;
  }
  // What other engines wrote into inputs.
  std::span<const Piece> pieces() const { return pieces_; }
  bool Has(const std::string& name) const { return tensors_.contains(name); }
  std::int64_t Size(const std::string& name, std::size_t dim) const {
    return tensors_.at(name).shape.at(dim);
  }
  // One sequence's part of a port.
  template <typename T>
  std::span<T> Row(const std::string& name, std::int64_t row) const {
    const Tensor& tensor = tensors_.at(name);
    std::size_t size = 1;
    for (std::size_t dim = 1; dim < tensor.shape.size(); ++dim) {
      size *= static_cast<std::size_t>(tensor.shape[dim]);
    }
    return {static_cast<T*>(tensor.data) + static_cast<std::size_t>(row) * size, size};
  }

 private:
  std::map<std::string, Tensor> tensors_;  // By name.
  std::vector<Piece> pieces_;              // Of all inputs.
};

class FunctionEngine : public Engine {
 public:
  using Graph = std::function<void(const BoundPorts&)>;

  explicit FunctionEngine(Graph graph) : graph_(std::move(graph)) {}
  bool HasInput(std::string_view) const override { return true; }
  std::unique_ptr<Call> Bind(std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) override {
    struct Bound : Call {
      Bound(const Graph& whole, BoundPorts to) : graph(whole), ports(std::move(to)) {}
      void Start() override {
        TakePieces(ports.pieces());
        graph(ports);
      }
      const Graph& graph;
      BoundPorts ports;
    };
    return std::make_unique<Bound>(graph_, BoundPorts(inputs, outputs));
  }

 private:
  Graph graph_;  // Reads and writes the ports.
};

inline std::unique_ptr<Engine> MakeEngine(FunctionEngine::Graph graph) {
  return std::make_unique<FunctionEngine>(std::move(graph));
}

// Gives the token ids of a source as its hidden states, one number each, and counts its runs.
inline std::unique_ptr<Engine> MakeIdentityEncoder(int& runs) {
  return MakeEngine([&runs](const BoundPorts& ports) {
    ++runs;
    for (std::int64_t row = 0; row < ports.Size("input_ids", 0); ++row) {
      const auto ids = ports.Row<const TokenId>("input_ids", row);
      const auto mask = ports.Row<const bool>("encoder_attention_mask", row);
      const auto states = ports.Row<float>("encoder_hidden_states", row);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        states[i] = mask[i] ? static_cast<float>(ids[i]) : -1.0F;
      }
    }
  });
}

// The source of a row as a role sees it through the encoder's ports.
inline std::vector<TokenId> SeenSource(const BoundPorts& ports, std::int64_t row) {
  const auto mask = ports.Row<const bool>("encoder_attention_mask", row);
  const auto states = ports.Row<const float>("encoder_hidden_states", row);
  std::vector<TokenId> source;
  for (std::size_t i = 0; i < mask.size(); ++i) {
    if (mask[i]) source.push_back(static_cast<TokenId>(states[i]));
  }
  return source;
}

}  // namespace ptgc
