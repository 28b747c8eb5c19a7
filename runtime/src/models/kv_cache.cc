#include "models/kv_cache.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

// Bytes of one slot of one head.
std::size_t SlotBytes(const LayerState& state) {
  return Size(state.head_dim) * ItemSize(state.dtype);
}

}  // namespace

KVCache::KVCache(const std::map<std::string, std::vector<LayerState>>& roles,
                 const ShapePlan& shapes, std::shared_ptr<Memory> memory)
    : memory_(std::move(memory)),
      batch_(shapes.batch),
      capacities_(shapes.roles.at(roles.begin()->first).kv_capacities),
      window_offsets_(Size(shapes.batch), 0) {
  int widest = 1;
  for (const auto& [name, states] : roles) {
    const RoleShapes& own = shapes.roles.at(name);
    std::vector<std::size_t>& layers = layers_[name];
    widest = std::max(widest, own.widths.back());
    for (const LayerState& state : states) {
      layers.push_back(states_.size());  // Replaced below if it is shared.
      if (!state.shared_with.has_value()) AddLayer(state, own);
    }
  }
  for (const auto& [name, states] : roles) {
    for (std::size_t layer = 0; layer < states.size(); ++layer) {
      const std::optional<SharedLayer>& shared = states[layer].shared_with;
      if (shared.has_value())
        layers_[name][layer] = layers_.at(shared->role).at(Size(shared->layer));
    }
  }
  int fewest = capacities_.back();
  for (int capacity : window_capacities_) {
    if (capacity > 0) fewest = std::min(fewest, capacity);
  }
  // Behind the last position before the next offset there must be slots for the widest round. A
  // stride of the widest round's width splits no chunk of a prompt.
  if (fewest < capacities_.back()) stride_ = std::min(fewest - seen_ - widest + 1, widest);
  buffers_.reserve(capacities_.size() * states_.size() * 2);
  for (std::size_t set = 0; set < capacities_.size(); ++set) {
    for (std::size_t layer = 0; layer < states_.size(); ++layer) {
      const std::size_t bytes = Size(batch_) * Size(states_[layer].kv_heads) *
                                Size(CapacityOf(layer, set)) * SlotBytes(states_[layer]);
      buffers_.emplace_back(memory_, bytes);
      buffers_.emplace_back(memory_, bytes);
    }
  }
}

void KVCache::AddLayer(const LayerState& state, const RoleShapes& shapes) {
  const auto own = shapes.window_capacities.find(state.window);
  const bool slides = state.kind == StateKind::kWindow && own != shapes.window_capacities.end() &&
                      own->second < capacities_.back();
  states_.push_back(state);
  window_capacities_.push_back(slides ? own->second : 0);
  if (slides) seen_ = std::max(seen_, state.window - 1);
}

void KVCache::MoveSlots(std::size_t layer, Place to, Place from, int count) {
  const LayerState& state = states_[layer];
  const std::size_t slot = SlotBytes(state);
  const std::size_t head_bytes = Size(CapacityOf(layer, active_)) * slot;
  const std::size_t row_bytes = Size(state.kv_heads) * head_bytes;
  for (std::size_t part = 0; part < 2; ++part) {
    const Block& block = At(active_, layer, part);
    memory_->Copy({block.At(Size(to.row) * row_bytes + Size(to.slot) * slot), head_bytes,
                   block.At(Size(from.row) * row_bytes + Size(from.slot) * slot), head_bytes,
                   Size(count) * slot, Size(state.kv_heads)});
  }
}

void KVCache::Grow(int slots) {
  if (slots <= capacity()) return;
  std::size_t next = active_ + 1;
  while (next < capacities_.size() && capacities_[next] < slots) ++next;
  if (next == capacities_.size()) {
    throw Error(ErrorCode::kCapacity,
                "A round needs " + std::to_string(slots) + " cache slots; this build has " +
                    std::to_string(capacities_.back()) + ".",
                "Build again with a larger --max-length.");
  }
  Copy(active_, next);
  for (std::size_t layer = 0; layer < states_.size(); ++layer) {
    buffers_[(active_ * states_.size() + layer) * 2].Discard();
    buffers_[(active_ * states_.size() + layer) * 2 + 1].Discard();
  }
  active_ = next;
}

void KVCache::Clear() {
  std::fill(window_offsets_.begin(), window_offsets_.end(), 0);
  if (active_ == 0) return;
  for (Block& block : buffers_) block.Discard();
  active_ = 0;
}

void KVCache::Copy(std::size_t from, std::size_t to) {
  for (std::size_t layer = 0; layer < states_.size(); ++layer) {
    const LayerState& state = states_[layer];
    const std::size_t slot = SlotBytes(state);
    const std::size_t heads = Size(batch_) * Size(state.kv_heads);
    const std::size_t before = Size(CapacityOf(layer, from)), after = Size(CapacityOf(layer, to));
    for (std::size_t part = 0; part < 2; ++part) {
      memory_->Copy({At(to, layer, part).data(), after * slot, At(from, layer, part).data(),
                     before * slot, before * slot, heads});
    }
  }
}

int KVCache::OffsetAt(int length) const {
  return stride_ == 0 ? 0 : std::max(length / stride_ * stride_ - seen_, 0);
}

int KVCache::Room(int length) const {
  return stride_ == 0 ? std::numeric_limits<int>::max() : stride_ - length % stride_;
}

void KVCache::Slide(int row, int length) {
  const int offset = window_offset(row), kept_from = OffsetAt(length);
  if (kept_from <= offset) return;
  for (std::size_t layer = 0; layer < states_.size(); ++layer) {
    if (!Slides(layer)) continue;
    // When measuring, `length` may exceed what was ever written.
    const int end = std::min(length, offset + CapacityOf(layer, active_));
    if (end > kept_from) MoveSlots(layer, {row, 0}, {row, kept_from - offset}, end - kept_from);
  }
  window_offsets_[Size(row)] = kept_from;
}

int KVCache::Held(int row, int length) const {
  return OffsetAt(length) < window_offset(row) ? 0 : length;
}

void KVCache::Keep(int row, int base, std::span<const int> path) {
  for (std::size_t layer = 0; layer < states_.size(); ++layer) {
    const int root = base - (Slides(layer) ? window_offset(row) : 0);
    for (std::size_t i = 0; i < path.size(); ++i) {
      const int kept = static_cast<int>(i) + 1;
      if (path[i] != kept) MoveSlots(layer, {row, root + kept}, {row, root + path[i]}, 1);
    }
  }
}

void KVCache::CopyRow(int from, int to, int length) {
  const int offset = window_offset(from);
  for (std::size_t layer = 0; layer < states_.size(); ++layer) {
    const int count = length - (Slides(layer) ? offset : 0);
    MoveSlots(layer, {to, 0}, {from, 0}, count);
  }
  window_offsets_[Size(to)] = offset;
}

void KVCache::AppendPorts(const std::string& role, const char* prefix,
                          std::vector<Tensor>& tensors) const {
  constexpr const char* kParts[] = {".key", ".value"};
  const std::vector<std::size_t>& layers = layers_.at(role);
  for (std::size_t port = 0; port < layers.size(); ++port) {
    const std::size_t layer = layers[port];
    const LayerState& state = states_[layer];
    for (std::size_t part = 0; part < 2; ++part) {
      tensors.push_back({prefix + std::to_string(port) + kParts[part],
                         state.dtype,
                         At(active_, layer, part).data(),
                         {batch_, state.kv_heads, CapacityOf(layer, active_), state.head_dim}});
    }
  }
}

}  // namespace ptgc
