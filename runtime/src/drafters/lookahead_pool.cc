#include "drafters/lookahead_pool.h"

#include <algorithm>

namespace ptgc {

LookaheadPool::LookaheadPool(int ngram_size, int most, std::size_t capacity)
    : rest_size_(static_cast<std::size_t>(ngram_size) - 1),
      most_(static_cast<std::size_t>(most)),
      firsts_(capacity),
      rests_(capacity * rest_size_),
      ages_(capacity) {
  found_.reserve(most_);
}

void LookaheadPool::Add(TokenId first, std::span<const TokenId> rest) {
  const std::size_t slot = SlotFor(first, rest);
  firsts_[slot] = first;
  std::copy(rest.begin(), rest.end(),
            rests_.begin() + static_cast<std::ptrdiff_t>(slot * rest_size_));
  ages_[slot] = ++clock_;
}

std::span<const std::size_t> LookaheadPool::Find(TokenId first) {
  found_.clear();
  for (std::size_t slot = 0; slot < size_; ++slot) {
    if (firsts_[slot] == first) found_.push_back(slot);
  }
  std::sort(found_.begin(), found_.end(),
            [this](std::size_t one, std::size_t other) { return ages_[one] > ages_[other]; });
  return found_;
}

// That of the same n-gram, or of the oldest that must make way, or an empty one.
std::size_t LookaheadPool::SlotFor(TokenId first, std::span<const TokenId> rest) {
  const std::span<const std::size_t> alike = Find(first);
  for (const std::size_t slot : alike) {
    if (std::ranges::equal(Rest(slot), rest)) return slot;
  }
  if (alike.size() == most_) return alike.back();
  if (size_ < firsts_.size()) return size_++;
  return static_cast<std::size_t>(std::ranges::min_element(ages_) - ages_.begin());
}

}  // namespace ptgc
