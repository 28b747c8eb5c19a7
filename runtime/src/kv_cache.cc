#include "kv_cache.h"

#include <cstring>
#include <string>
#include <utility>

#include "error.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

// Bytes of one slot of one head.
std::size_t SlotBytes(const LayerState& state) {
  return Size(state.head_dim) * ItemSize(state.dtype);
}

}  // namespace

KVCache::KVCache(std::vector<LayerState> states, int batch, std::vector<int> capacities)
    : states_(std::move(states)), batch_(batch), capacities_(std::move(capacities)) {
  buffers_.reserve(capacities_.size() * states_.size() * 2);
  for (int capacity : capacities_) {
    for (const LayerState& state : states_) {
      const std::size_t bytes =
          Size(batch_) * Size(state.kv_heads) * Size(capacity) * SlotBytes(state);
      buffers_.emplace_back(bytes);
      buffers_.emplace_back(bytes);
    }
  }
}

void KVCache::Grow(int slots, int length) {
  if (slots <= capacity()) return;
  std::size_t next = active_ + 1;
  while (next < capacities_.size() && capacities_[next] < slots) ++next;
  if (next == capacities_.size()) {
    throw Error(ErrorCode::kCapacity,
                "A round needs " + std::to_string(slots) + " cache slots; this build has " +
                    std::to_string(capacities_.back()) + ".",
                "Build again with a larger --max-length.");
  }
  Copy(active_, next, length);
  for (std::size_t i = 0; i < states_.size() * 2; ++i) {
    buffers_[active_ * states_.size() * 2 + i].Discard();
  }
  active_ = next;
}

void KVCache::Reset() {
  if (active_ == 0) return;
  for (Buffer& buffer : buffers_) buffer.Discard();
  active_ = 0;
}

void KVCache::Copy(std::size_t from, std::size_t to, int length) {
  for (std::size_t layer = 0; layer < states_.size(); ++layer) {
    const LayerState& state = states_[layer];
    const std::size_t slot = SlotBytes(state);
    const std::size_t heads = Size(batch_) * Size(state.kv_heads);
    for (std::size_t part = 0; part < 2; ++part) {
      const char* source = At(from, layer, part).As<char>();
      char* destination = At(to, layer, part).As<char>();
      for (std::size_t head = 0; head < heads; ++head) {
        std::memcpy(destination + head * Size(capacities_[to]) * slot,
                    source + head * Size(capacities_[from]) * slot, Size(length) * slot);
      }
    }
  }
}

void KVCache::Gather(int row, int base, std::span<const int> path) {
  for (std::size_t layer = 0; layer < states_.size(); ++layer) {
    const LayerState& state = states_[layer];
    const std::size_t slot = SlotBytes(state);
    for (std::size_t part = 0; part < 2; ++part) {
      char* sequence = At(active_, layer, part).As<char>() +
                       Size(row) * Size(state.kv_heads) * Size(capacity()) * slot;
      for (std::size_t head = 0; head < Size(state.kv_heads); ++head) {
        char* root = sequence + (head * Size(capacity()) + Size(base)) * slot;
        for (std::size_t i = 0; i < path.size(); ++i) {
          if (Size(path[i]) == i + 1) continue;
          std::memcpy(root + (i + 1) * slot, root + Size(path[i]) * slot, slot);
        }
      }
    }
  }
}

void KVCache::AppendPorts(const char* prefix, std::vector<Tensor>& tensors) const {
  constexpr const char* kParts[] = {".key", ".value"};
  for (std::size_t layer = 0; layer < states_.size(); ++layer) {
    const LayerState& state = states_[layer];
    for (std::size_t part = 0; part < 2; ++part) {
      tensors.push_back({prefix + std::to_string(layer) + kParts[part],
                         state.dtype,
                         At(active_, layer, part).data(),
                         {batch_, state.kv_heads, capacity(), state.head_dim}});
    }
  }
}

}  // namespace ptgc
