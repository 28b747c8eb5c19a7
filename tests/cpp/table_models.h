// Models of five tokens whose logits are tables, and rounds of drafting with them.
#pragma once

#include <cstdint>
#include <span>
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
  explicit DraftedText(const TreeSpec& tree) : proposal(tree.num_nodes() - 1) {
    counts.AppendPrompt(kPrompt);
    probabilities.resize(static_cast<std::size_t>(proposal.capacity() * kVocab));
  }

  // Makes a full proposal as a model does for this rule, token by token.
  void Draft(Model model, const SamplingOptions& options, AcceptanceRule rule, Sampler& sampler);
  // What the target is asked.
  ProposedText Question(TableReader& reader, const SamplingOptions& options, AcceptanceRule rule);
  // Keeps what the answers accept, and the bonus.
  void Accept(std::span<const TokenId> next_ids);

  Tokens text = kPrompt;             // The text.
  TokenCounts counts{kVocab, 200};   // Of it.
  Proposal proposal;                 // What may follow.
  std::vector<float> probabilities;  // [drafts, kVocab], what drafts were drawn from.
  Acceptance acceptance{8};          // Of the last round.
};

}  // namespace ptgc
