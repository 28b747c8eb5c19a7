#include "drafters/suffix_automaton.h"

#include <algorithm>
#include <bit>

namespace ptgc {
namespace {

// Suffixes whose counts a token updates, the longest first. Only texts that repeat a few tokens
// over and over have more; there, counts of short substrings stay behind.
constexpr int kMostCounted = 32;
// Behind fewer tokens than this, a continuation counts more than the latest one if it was at least
// so many times as frequent. Measured on texts of ptgc/texts/prompts: longer substrings are mostly
// continued as they last were.
constexpr int kTelling = 3;
constexpr int kMuchMoreFrequent = 2;

}  // namespace

SuffixAutomaton::SuffixAutomaton(int max_length) {
  const std::size_t tokens = static_cast<std::size_t>(std::max(max_length, 1));
  states_.reserve(2 * tokens);
  edges_.reserve(3 * tokens);
  slots_.assign(std::bit_ceil(6 * tokens), kNone);
  NewState({});
}

void SuffixAutomaton::Clear() {
  if (size_ == 0) return;
  std::fill(slots_.begin(), slots_.end(), kNone);
  states_.clear();
  edges_.clear();
  NewState({});
  size_ = 0;
  last_ = kRoot;
}

void SuffixAutomaton::Append(TokenId id) {
  const std::int32_t token = static_cast<std::int32_t>(id);
  const int whole = NewState({.length = ++size_, .link = kRoot});
  const int before = last_;
  last_ = whole;
  int suffix = before, found = kNone;
  for (; suffix != kNone; suffix = At(suffix).link) {
    found = Find(suffix, token);
    if (found != kNone) break;
    AddEdge(suffix, token, whole);
  }
  if (found != kNone) {
    const int to = EdgeAt(found).to;
    const bool is_suffix = At(to).length == At(suffix).length + 1;
    At(whole).link = is_suffix ? to : Split(to, suffix, token);
  }
  CountSuffixes(before, token);
}

// Of a state's substrings, those that are suffixes of the text now end at one place more: the one
// that continues `from` with the token, and shorter ones. They get a state of their own.
int SuffixAutomaton::Split(int state, int from, std::int32_t token) {
  State copied = At(state);
  copied.length = At(from).length + 1;
  copied.edges = copied.latest = copied.most = kNone;
  const int suffix = NewState(copied);
  for (int edge = At(state).edges; edge != kNone; edge = EdgeAt(edge).next) {
    const int added = AddEdge(suffix, EdgeAt(edge).token, EdgeAt(edge).to);
    if (edge == At(state).latest) copied.latest = added;
    if (edge == At(state).most) copied.most = added;
  }
  At(suffix).latest = copied.latest;
  At(suffix).most = copied.most;
  At(state).link = suffix;
  for (; from != kNone; from = At(from).link) {
    const int edge = Find(from, token);
    if (edge == kNone || EdgeAt(edge).to != state) break;
    EdgeAt(edge).to = suffix;
  }
  return suffix;
}

// All suffixes of the text end at one place more, and those of the text before were continued.
void SuffixAutomaton::CountSuffixes(int before, std::int32_t token) {
  int state = last_;
  for (int i = 0; i < kMostCounted && state != kRoot; ++i, state = At(state).link) {
    ++At(state).count;
    At(state).last_end = size_ - 1;
  }
  for (int i = 0; i < kMostCounted && before != kRoot; ++i, before = At(before).link) {
    State& continued = At(before);
    continued.latest = Find(before, token);
    if (CountOf(continued.latest) >= CountOf(continued.most)) continued.most = continued.latest;
  }
}

SuffixAutomaton::Continuation SuffixAutomaton::Likeliest(int state, int length) const {
  const State& known = At(state);
  if (known.latest == kNone) return {};
  const bool is_frequent = CountOf(known.most) >= kMuchMoreFrequent * CountOf(known.latest);
  const Edge& best = EdgeAt(length < kTelling && is_frequent ? known.most : known.latest);
  // Nothing has followed the end of the text yet.
  const int continued = known.count - (known.last_end == size_ - 1 ? 1 : 0);
  const double share = static_cast<double>(At(best.to).count) / std::max(continued, 1);
  return {best.to, best.token, std::min(share, 1.0)};
}

int SuffixAutomaton::NewState(const State& state) {
  states_.push_back(state);
  return static_cast<int>(states_.size()) - 1;
}

std::size_t SuffixAutomaton::Slot(int from, std::int32_t token) const {
  const std::size_t last = slots_.size() - 1;  // The size is a power of two.
  std::uint64_t hash =
      (static_cast<std::uint64_t>(from) << 32U) ^ static_cast<std::uint32_t>(token);
  hash *= 0x9E3779B97F4A7C15U;  // 2^64 over the golden ratio (Knuth, volume 3, section 6.4).
  std::size_t slot = static_cast<std::size_t>(hash >> 32U) & last;
  while (slots_[slot] != kNone) {
    const Edge& edge = edges_[static_cast<std::size_t>(slots_[slot])];
    if (edge.from == from && edge.token == token) break;
    slot = (slot + 1) & last;
  }
  return slot;
}

int SuffixAutomaton::AddEdge(int from, std::int32_t token, int to) {
  const int edge = static_cast<int>(edges_.size());
  slots_[Slot(from, token)] = edge;
  edges_.push_back({from, token, to, At(from).edges});
  At(from).edges = At(from).latest = edge;
  if (At(from).most == kNone) At(from).most = edge;
  return edge;
}

}  // namespace ptgc
