#include "drafters/recycling_drafter.h"

#include <algorithm>
#include <utility>

#include "bundle/json_document.h"

namespace ptgc {

std::string RecyclingParameters::Misfit(int /*num_draft_tokens*/, const TreeSpec& tree) const {
  int most = 0;
  for (int node = 1; node < tree.num_nodes(); ++node) most = std::max(most, tree.rank(node) + 1);
  if (most <= num_top_ids) return "";
  return ".num_candidates is " + std::to_string(num_top_ids) + "; a node of plan.tree has " +
         std::to_string(most) + " children.";
}

void ReadRecycling(const Fields& data, DrafterPlan& plan) {
  auto parameters = std::make_shared<RecyclingParameters>();
  parameters->num_top_ids = static_cast<int>(data.Integer("num_candidates", limits::kTopIds));
  parameters->shortest_match = 1;
  parameters->longest_match = 2;
  plan.parameters = std::move(parameters);
}

std::unique_ptr<Drafter> MakeRecycling(DrafterSeat& seat) {
  return std::make_unique<RecyclingDrafter>(seat.plan.tree, seat.bundle.model.vocab_size,
                                            seat.plan.drafter.parameters->num_top_ids);
}

RecyclingDrafter::RecyclingDrafter(TreeSpec tree, std::int64_t vocab_size, int num_candidates)
    : tree_(std::move(tree)),
      nodes_(static_cast<std::size_t>(tree_.num_nodes())),
      vocab_size_(vocab_size),
      num_candidates_(static_cast<std::size_t>(num_candidates)),
      matrix_(static_cast<std::size_t>(vocab_size) * num_candidates_ * sizeof(std::int32_t)) {
  for (int node = 0; node < tree_.num_nodes(); ++node) {
    ranks_.push_back(node == 0 ? 0 : static_cast<std::size_t>(tree_.rank(node)));
  }
}

// A node whose token is unknown is left out with its descendants.
int RecyclingDrafter::Propose(const DraftRow& row) {
  Proposal& proposal = *row.proposal;
  if (row.text.empty()) return 0;
  for (std::size_t node = 1; node < nodes_.size() && proposal.size() < row.limit; ++node) {
    const int parent = nodes_[static_cast<std::size_t>(tree_.parent(static_cast<int>(node)))];
    nodes_[node] = -1;
    if (parent < 0) continue;
    const TokenId token = parent == 0 ? row.text.back() : proposal.token(parent);
    const std::span<const std::int32_t> candidates = CandidatesOf(token);
    if (ranks_[node] >= candidates.size() || candidates[ranks_[node]] == 0) continue;
    nodes_[node] = proposal.Add(parent, candidates[ranks_[node]] - 1);
  }
  proposal.set_match_length(1);
  return proposal.size();
}

// Of several rows of one token the last one counts, and rows of the text count more than drafts
// that were rejected: these were read after text that does not exist.
void RecyclingDrafter::Observe(int /*row*/, const Observation& seen) {
  const auto candidates = [&](std::size_t place) {
    return seen.top_ids.subspan(place * num_candidates_, num_candidates_);
  };
  const auto keep_draft = [&](int node) {
    Keep(seen.proposal->token(node), candidates(static_cast<std::size_t>(seen.Place(node))));
  };
  const int drafts = seen.proposal != nullptr ? seen.proposal->size() : 0;
  for (int node = 1; node <= drafts; ++node) keep_draft(node);
  for (std::size_t i = 0; i < seen.read.size(); ++i) Keep(seen.read[i], candidates(i));
  for (const int node : seen.path) keep_draft(node);
}

void RecyclingDrafter::Keep(TokenId token, std::span<const TokenId> candidates) {
  const std::span<std::int32_t> kept = CandidatesOf(token);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const bool is_token = candidates[i] >= 0 && candidates[i] < vocab_size_;
    kept[i] = is_token ? static_cast<std::int32_t>(candidates[i]) + 1 : 0;
  }
}

}  // namespace ptgc
