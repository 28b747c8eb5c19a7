// RecyclingDrafter: drafts the tokens that the target found likeliest when it last read each token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "bundle/plan.h"
#include "drafters/drafter_seat.h"
#include "drafters/lookup_drafter.h"

namespace ptgc {

class Fields;

// The plan's parameters of it; its candidates are the `num_top_ids`.
struct RecyclingParameters : DrafterParameters {
  std::string Misfit(int num_draft_tokens, const TreeSpec& tree) const override;
};

void ReadRecycling(const Fields& data, DrafterPlan& plan);
std::unique_ptr<Drafter> MakeRecycling(DrafterSeat& seat);

// Source: Token Recycling, Luo et al., arXiv 2408.08696, section 3. Row t of the adjacency matrix M
// holds the k likeliest tokens after the last row of the target that read token t, whether that row
// was text or a rejected draft. The plan's tree is filled from it: the child of rank r of a node
// with token t is M[t, r]. All sequences and all texts, one after the other, share one matrix.
class RecyclingDrafter : public LookupDrafter {
 public:
  RecyclingDrafter(TreeSpec tree, std::int64_t vocab_size, int num_candidates);

  // What a token was followed by remains a good guess in other texts.
  int Propose(const DraftRow& row) override;
  void Observe(int row, const Observation& seen) override;

 private:
  void Keep(TokenId token, std::span<const TokenId> candidates);
  // A token's row of the matrix; empty for an id that is no token, which only a broken graph gives.
  std::span<std::int32_t> CandidatesOf(TokenId token) const {
    if (token < 0 || token >= vocab_size_) return {};
    const std::size_t first = static_cast<std::size_t>(token) * num_candidates_;
    return {matrix_.As<std::int32_t>() + first, num_candidates_};
  }

  TreeSpec tree_;                   // The tree of a full proposal.
  std::vector<std::size_t> ranks_;  // [nodes], among the children of a node's parent.
  std::vector<int> nodes_;          // [nodes], numbers in the proposal; -1 if left out.
  std::int64_t vocab_size_;         // Rows of the matrix.
  std::size_t num_candidates_;      // Columns of the matrix.
  Buffer matrix_;                   // [vocab, candidates], 1 + token, likeliest first; 0: unknown.
};

}  // namespace ptgc
