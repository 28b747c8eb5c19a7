// Models of five tokens whose logits are tables, and rounds of drafting with them.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "sampling/acceptance.h"
#include "sampling/target_choice.h"

namespace ptgc {

constexpr std::int64_t kVocab = 5;
using Tokens = std::vector<TokenId>;

// What every text starts with.
inline const Tokens kPrompt = {1, 4, 2};

// The logits after a text, a matter of its last two tokens: [kVocab].
using Model = std::span<const float> (*)(std::span<const TokenId> text);
std::span<const float> TargetLogits(std::span<const TokenId> text);
// Those of a drafter that knows nothing of the target.
std::span<const float> StrangeLogits(std::span<const TokenId> text);
// Those of a drafter that is nearly the target.
std::span<const float> NearLogits(std::span<const TokenId> text);

// The target's logits after every node of a proposal that follows a text.
class TableReader : public LogitsReader {
 public:
  TableReader(const Tokens& text, const Proposal& proposal) : text_(&text), proposal_(&proposal) {}
  LogitsRow Row(int node) override;
  int rows_read() const { return rows_read_; }

 private:
  const Tokens* text_;        // What is committed.
  const Proposal* proposal_;  // What follows.
  int rows_read_ = 0;         // How often a row was asked for.
};

// One text and all that its rounds keep.
struct DraftedText {
  // `num_others` is room for drafts that no model makes.
  explicit DraftedText(TreeSpec tree, int num_others = 0)
      : shape(std::move(tree)), proposal(shape.num_nodes() - 1 + num_others) {
    counts.AppendPrompt(kPrompt);
    indices.resize(static_cast<std::size_t>(proposal.capacity()) + 1);
    probabilities.resize(static_cast<std::size_t>(shape.num_nodes() * kVocab));
  }

  // Starts a new proposal.
  void Clear();
  // Adds the tree's nodes to the proposal as a model does for this rule.
  void Draft(Model model, const SamplingOptions& options, AcceptanceRule rule, Sampler& sampler);
  // What the target is asked.
  ProposedText Question(TableReader& reader, const SamplingOptions& options, AcceptanceRule rule);
  // Keeps what is accepted, and the bonus.
  void Accept(Verdict verdict);

  Tokens text = kPrompt;             // The text.
  TokenCounts counts{kVocab, 200};   // Of it.
  TreeSpec shape;                    // Of what a model drafts.
  Proposal proposal;                 // What may follow.
  std::vector<int> indices;          // [1 + drafts], for DraftProbabilities.
  std::vector<float> probabilities;  // [nodes of the shape, kVocab], what children were drawn from.
  Acceptance acceptance{8};          // Of the last round.
};

}  // namespace ptgc
