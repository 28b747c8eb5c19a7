#include "drafters/drawn_drafts.h"

#include <algorithm>

#include "drafters/drafter_logits.h"
#include "sampling/target_choice.h"

namespace ptgc {
namespace {

std::size_t Size(std::int64_t value) { return static_cast<std::size_t>(value); }

}  // namespace

DrawnDrafts::DrawnDrafts(const TreeSpec& tree, AcceptanceRule rule, int batch, std::int64_t num_ids)
    : tree_(tree),
      rule_(rule),
      num_ids_(num_ids),
      sampler_(num_ids),
      families_(Size(tree.num_nodes()), -1),
      rows_(Size(batch)) {
  for (int node = 0; node < tree_.num_nodes(); ++node) {
    if (tree_.num_children(node) > 0) families_[Size(node)] = num_families_++;
  }
  for (Row& row : rows_) {
    row.places.resize(Size(tree_.num_nodes()));
    row.drawn.resize(Size(tree_.num_nodes()), DraftProbabilities::kCertain);
  }
  siblings_.reserve(Size(tree_.num_nodes() - 1));
  if (!NeedsProbabilities(rule_)) return;
  probabilities_ = Buffer(Size(batch) * Size(num_families_) * Size(num_ids_) * sizeof(float));
}

void DrawnDrafts::Clear(int row) {
  std::vector<int>& drawn = RowAt(row).drawn;
  std::fill(drawn.begin(), drawn.end(), DraftProbabilities::kCertain);
}

void DrawnDrafts::AddChildren(const DraftRow& row, int node, LogitsRow logits) {
  Row& held = RowAt(row.row);
  const SamplingOptions& options = row.sampling->options();
  const int place = node == 0 ? 0 : held.places[Size(node)];
  const int end = std::min(tree_.num_nodes(), row.limit + 1);
  const auto is_child = [&](int other) { return tree_.parent(other) == place; };
  int child = place + 1;
  while (child < end && !is_child(child)) ++child;
  if (child >= end) return;
  logits.size = std::min(logits.size, num_ids_);
  ReadDrafterLogits(sampler_, &Sampler::Read, row, *row.proposal, node, logits);
  const bool records = NeedsProbabilities(rule_) && !options.is_greedy();
  const int family = records ? families_[Size(place)] : DraftProbabilities::kCertain;
  if (records) sampler_.WriteProbabilities(Distributions(row.row, family, 1));
  const int depth = tree_.depth(place) - row.guesses;
  const GumbelNoise noise = DraftNoise(
      options, static_cast<std::int64_t>(row.text.size()) + tree_.depth(place), rule_, depth);
  siblings_.clear();
  for (; child < end; ++child) {
    if (!is_child(child)) continue;
    const TokenId token = sampler_.Choose(noise, siblings_);
    if (token == kNoToken) return;  // The filters leave no more tokens.
    siblings_.push_back(token);
    const int before = row.proposal->size();
    const int added = row.proposal->Add(node, token);
    held.places[Size(added)] = child;
    // A child that was there already stays certain: it is tried before those that are drawn.
    if (row.proposal->size() > before) held.drawn[Size(added)] = family;
  }
}

DraftProbabilities DrawnDrafts::Probabilities(int row, int count) const {
  if (!NeedsProbabilities(rule_)) return {};
  return {Distributions(row, 0, num_families_), std::span(RowAt(row).drawn).first(Size(count) + 1),
          num_ids_};
}

// The distributions of some nodes with children.
std::span<float> DrawnDrafts::Distributions(int row, int first, int count) const {
  const std::size_t at = (Size(row) * Size(num_families_) + Size(first)) * Size(num_ids_);
  return {probabilities_.As<float>() + at, Size(count) * Size(num_ids_)};
}

}  // namespace ptgc
