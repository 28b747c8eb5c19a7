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
// buffers per capacity of the plan, at fixed addresses, so that what is bound stays bound; in host
// memory only the set in use takes any.
//
// Roles that share layers have one cache together, so that it grows, slides, begins and copies rows
// for all of them at once: a role that begins a row anew takes it from the others.
//
// A layer with a window has a cache of its own, which slides where it is smaller than the others:
// slot s holds position s + window_offset(row), and what is still seen moves to the front every
// `stride` positions. In which slots a token sees the text decides in which order an engine adds it
// up, so that the offset is a matter of the row's position alone: not of how wide rounds are, which
// drafts and other rows decide.
//
//          stride        2 * stride
//     +------+------+------+------+--      A round that begins before 2 * stride runs at the offset
//               [window]                   of `stride`, one from there on at the next. Behind every
//               offset of 2 * stride       position there are slots for the widest round.
class KVCache {
 public:
  // `roles` has the states of every role that is part of it; the owners of shared ones are.
  KVCache(const std::map<std::string, std::vector<LayerState>>& roles, const ShapePlan& shapes,
          std::shared_ptr<Memory> memory = HostMemory());

  int capacity() const { return capacities_[active_]; }
  // Which of the plan's capacities is in use.
  std::size_t active() const { return active_; }
  // The position of slot 0 of a row's sliding caches.
  int window_offset(int row) const { return window_offsets_[static_cast<std::size_t>(row)]; }

  // Moves to the smallest capacity with `slots` slots, unless this one has them; every sequence
  // keeps what it holds. Throws a capacity error where the plan has none.
  void Grow(int slots);
  // Back to the smallest capacity; the contents are gone.
  void Clear();
  // A row's text starts anew.
  void Begin(int row) { window_offsets_[static_cast<std::size_t>(row)] = 0; }
  // Makes room for a round of any width behind `length` tokens of one sequence in its sliding
  // caches.
  void Slide(int row, int length);
  // How many tokens from position `length` on are computed at one offset when rounds end there, at
  // least one.
  int Room(int length) const;
  // How many of the first `length` tokens are still held; 0 where a sliding cache has lost some
  // that would be seen again.
  int Held(int row, int length) const;
  // Commits the accepted nodes of a tree, whose root is slot `base` of one sequence: node path[i],
  // which is in slot base + path[i], belongs in base + 1 + i. What is in its place is not copied.
  void Keep(int row, int base, std::span<const int> path);
  // Makes the first `length` tokens of one sequence those of another.
  void CopyRow(int from, int to, int length);

  // A role's states as ports at the capacity in use: past_key_values.* or present.*, one buffer.
  void AppendPast(const std::string& role, std::vector<Tensor>& tensors) const {
    AppendPorts(role, "past_key_values.", tensors);
  }
  void AppendPresent(const std::string& role, std::vector<Tensor>& tensors) const {
    AppendPorts(role, "present.", tensors);
  }

 private:
  // Slots of a row from one on.
  struct Place {
    int row;   // The sequence.
    int slot;  // The first.
  };
  // The keys (part 0) or values (part 1) of one layer at one capacity.
  const Block& At(std::size_t capacity, std::size_t layer, std::size_t part) const {
    return buffers_[(capacity * states_.size() + layer) * 2 + part];
  }
  // Whether its slots are counted from the offset on.
  bool Slides(std::size_t layer) const { return window_capacities_[layer] > 0; }
  // Of the sliding caches in a round behind `length` tokens.
  int OffsetAt(int length) const;
  int CapacityOf(std::size_t layer, std::size_t set) const {
    return Slides(layer) ? std::min(window_capacities_[layer], capacities_[set]) : capacities_[set];
  }
  void AddLayer(const LayerState& state, const RoleShapes& shapes);
  void AppendPorts(const std::string& role, const char* prefix, std::vector<Tensor>& tensors) const;
  void Copy(std::size_t from, std::size_t to);
  // Moves `count` slots of every head, keys and values of one layer in the set in use.
  void MoveSlots(std::size_t layer, Place to, Place from, int count);

  std::shared_ptr<Memory> memory_;                          // Where the states lie.
  std::vector<LayerState> states_;                          // What each layer keeps.
  std::map<std::string, std::vector<std::size_t>> layers_;  // By role: which layer each state is.
  int batch_;                                               // Sequences.
  std::vector<int> capacities_;         // Slots of each set of buffers, ascending.
  std::vector<int> window_capacities_;  // By layer, at most; 0 where it does not slide.
  int seen_ = 0;                        // Tokens before itself that the widest window sees.
  int stride_ = 0;                      // Positions from offset to offset; 0 where nothing slides.
  std::vector<Block> buffers_;          // [capacity, layer, key or value].
  std::size_t active_ = 0;              // The set in use.
  std::vector<int> window_offsets_;     // [batch]
};

}  // namespace ptgc
