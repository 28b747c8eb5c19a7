// KVCache: the per-layer states of all sequences, in host memory.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "buffer.h"
#include "bundle.h"
#include "engine.h"

namespace ptgc {

// Every state is [batch, kv_heads, capacity, head_dim], keys and values. There is one set of
// buffers per capacity of the plan, at fixed addresses, so that what is bound stays bound; only
// the set in use takes memory.
class KVCache {
 public:
  KVCache(std::vector<LayerState> states, int batch, std::vector<int> capacities);

  int capacity() const { return capacities_[active_]; }
  // Which of the plan's capacities is in use.
  std::size_t active() const { return active_; }

  // Moves to the smallest capacity with `slots` slots, unless this one has them; keeps the first
  // `length` slots of every sequence. Throws a capacity error where the plan has none.
  void Grow(int slots, int length);
  // Back to the smallest capacity; the contents are gone.
  void Reset();
  // Moves slots base + path[i] of one sequence to base + 1 + i: the accepted nodes of a tree.
  void Gather(int row, int base, std::span<const int> path);

  // The states as ports at the capacity in use: past_key_values.* or present.*, one buffer.
  void AppendPast(std::vector<Tensor>& tensors) const { AppendPorts("past_key_values.", tensors); }
  void AppendPresent(std::vector<Tensor>& tensors) const { AppendPorts("present.", tensors); }

 private:
  // The keys (part 0) or values (part 1) of one layer at one capacity.
  const Buffer& At(std::size_t capacity, std::size_t layer, std::size_t part) const {
    return buffers_[(capacity * states_.size() + layer) * 2 + part];
  }
  void AppendPorts(const char* prefix, std::vector<Tensor>& tensors) const;
  void Copy(std::size_t from, std::size_t to, int length);

  std::vector<LayerState> states_;  // What each layer keeps.
  int batch_;                       // Sequences.
  std::vector<int> capacities_;     // Slots of each set of buffers, ascending.
  std::vector<Buffer> buffers_;     // [capacity, layer, key or value].
  std::size_t active_ = 0;          // The set in use.
};

}  // namespace ptgc
