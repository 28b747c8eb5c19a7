// KVCache: the per-layer states of all sequences, in the memory of their engine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory.h"
#include "bundle/bundle.h"
#include "engines/engine.h"

namespace ptgc {

// Every state is [batch, kv_heads, capacity, head_dim], keys and values. There is one set of
// buffers per capacity of the plan, at fixed addresses, so that bound calls stay valid. In host
// memory, only the set in use takes memory.
//
// Roles that share layers have one common cache, so that it grows, slides, and begins and copies
// rows for all of them at once. A role that begins a row anew discards it for the others too.
//
// A layer with a window has its own cache, which slides if it is smaller than the others: slot s
// holds position s + window_offset(row), and what is still visible moves to the front every
// `stride` positions. The slots in which a token sees the text decide in which order an engine sums
// over it. The offset therefore depends on the row's position alone, not on the widths of rounds,
// which drafts and other rows influence.
//
//          stride        2 * stride
//     +------+------+------+------+--      A round that begins before 2 * stride runs at the offset
//               [window]                   of `stride`, one from there on at the next. Behind every
//               offset of 2 * stride       position there are slots for the widest round.
class KVCache {
 public:
  // `roles` has the states of every role that uses it, which include the owners of shared layers.
  KVCache(const std::map<std::string, std::vector<LayerState>>& roles, const ShapePlan& shapes,
          std::shared_ptr<Memory> memory = HostMemory());

  int capacity() const { return capacities_[active_]; }
  // Index of the plan's capacity in use.
  std::size_t active() const { return active_; }
  // The position of slot 0 of a row's sliding caches.
  int window_offset(int row) const { return window_offsets_[static_cast<std::size_t>(row)]; }

  // Moves to the smallest capacity with `slots` slots, unless the current one has them; every
  // sequence keeps its contents. Throws a capacity error if the plan has no such capacity.
  void Grow(int slots);
  // Returns to the smallest capacity and drops the contents.
  void Clear();
  // Starts a row's text anew.
  void Begin(int row) { window_offsets_[static_cast<std::size_t>(row)] = 0; }
  // Makes room for a round of any width behind `length` tokens of one sequence in its sliding
  // caches.
  void Slide(int row, int length);
  // How many tokens from position `length` on share one offset, if rounds end where it changes; at
  // least one.
  int Room(int length) const;
  // How many of the first `length` tokens are still held; 0 if a sliding cache has lost some that
  // would be visible again.
  int Held(int row, int length) const;
  // Commits the accepted nodes of a tree, whose root is slot `base` of one sequence: node path[i],
  // which is in slot base + path[i], moves to base + 1 + i. Nodes already in place are not copied.
  void Keep(int row, int base, std::span<const int> path);
  // Copies the first `length` tokens of sequence `from` to sequence `to`.
  void CopyRow(int from, int to, int length);

  // A role's states as ports at the capacity in use; past_key_values.* and present.* share buffers.
  void AppendPast(const std::string& role, std::vector<Tensor>& tensors) const {
    AppendPorts(role, "past_key_values.", tensors);
  }
  void AppendPresent(const std::string& role, std::vector<Tensor>& tensors) const {
    AppendPorts(role, "present.", tensors);
  }

 private:
  // A range of slots of a row.
  struct Place {
    int row;   // The sequence.
    int slot;  // The first slot.
  };
  // The keys (part 0) or values (part 1) of one layer at one capacity.
  const Block& At(std::size_t capacity, std::size_t layer, std::size_t part) const {
    return buffers_[(capacity * states_.size() + layer) * 2 + part];
  }
  // Whether a layer's slots start at the offset.
  bool Slides(std::size_t layer) const { return window_capacities_[layer] > 0; }
  // The offset of the sliding caches in a round after `length` tokens.
  int OffsetAt(int length) const;
  int CapacityOf(std::size_t layer, std::size_t set) const {
    return Slides(layer) ? std::min(window_capacities_[layer], capacities_[set]) : capacities_[set];
  }
  void AddLayer(const LayerState& state, const RoleShapes& shapes);
  void AppendPorts(const std::string& role, const char* prefix, std::vector<Tensor>& tensors) const;
  void Copy(std::size_t from, std::size_t to);
  // Moves `count` slots of every head, keys and values of one layer in the set in use.
  void MoveSlots(std::size_t layer, Place to, Place from, int count);

  std::shared_ptr<Memory> memory_;                          // Memory of the states.
  std::vector<LayerState> states_;                          // The state of each layer.
  std::map<std::string, std::vector<std::size_t>> layers_;  // By role: the layer of each state.
  int batch_;                                               // Sequences.
  std::vector<int> capacities_;         // Slots of each set of buffers, ascending.
  std::vector<int> window_capacities_;  // By layer; 0 if it does not slide.
  int seen_ = 0;                        // Earlier tokens in the widest window.
  int stride_ = 0;                      // Positions between offsets; 0 if nothing slides.
  std::vector<Block> buffers_;          // [capacity, layer, key or value].
  std::size_t active_ = 0;              // The set in use.
  std::vector<int> window_offsets_;     // [batch]
};

}  // namespace ptgc
