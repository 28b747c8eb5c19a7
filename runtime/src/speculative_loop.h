// SpeculativeLoop: draft -> verify -> accept -> commit.
#pragma once

#include <span>
#include <vector>

#include "acceptance.h"
#include "draft_length.h"
#include "proposal.h"
#include "session.h"
#include "target.h"
#include "token.h"

namespace ptgc {

// One session's part in a round: what it may do, and what came of it.
struct Turn {
  Session* session = nullptr;              // Whose turn it is.
  std::span<const TokenId> eos_token_ids;  // Any of them ends the text.
  int max_new_tokens = 0;                  // Tokens that it may still add; at least 1.
  bool may_draft = false;                  // Whether drafts may be verified.

  int chunk = 0;                     // Text tokens fed this round.
  int offered = 0;                   // Draft tokens that the drafter had.
  std::span<const TokenId> drafted;  // Draft tokens verified; valid until the next round.
  int accepted = 0;                  // How many of them were accepted.
  std::span<const TokenId> emitted;  // New tokens; none while a prompt is being read.
  bool ended = false;                // The last new token ends the text.
};

// What a round did as a whole.
struct RoundReport {
  int width = 0;              // Rows that the engine ran.
  double engine_seconds = 0;  // Inside the engine.
  double round_seconds = 0;   // All of it.
};

// Steps any of a batch's sessions; in steady state a round allocates nothing.
class SpeculativeLoop {
 public:
  // `num_draft_tokens` is the most drafts of a row; `sessions` has one per row of the batch.
  SpeculativeLoop(Target& target, const DecodePlan& plan, const ShapePlan& shapes,
                  DraftLength draft_length, int num_draft_tokens, std::span<Session*> sessions);

  // One round for the sessions of `turns`; the others keep what they have.
  RoundReport Round(std::span<Turn> turns);

 private:
  void Draft(std::span<Turn> turns);
  int Verify(std::span<Turn> turns);
  void Accept(std::span<Turn> turns);
  void Commit(std::span<Turn> turns);

  int ChunkLength(int pending) const;
  void OfferDrafts(Turn& turn);
  void Emit(Turn& turn);

  Target& target_;                       // Verifies.
  ShapePlan shapes_;                     // The shapes that may occur.
  DraftLength draft_length_;             // How many drafts pay.
  int num_draft_tokens_;                 // The most drafts of a row.
  std::vector<Session*> sessions_;       // Every row of the batch.
  std::vector<Proposal> proposals_;      // [batch]
  std::vector<Acceptance> acceptances_;  // [batch]
  std::vector<DraftOffer> offers_;       // [batch], of the rows that take turns.
  std::vector<RowInput> inputs_;         // [batch]
};

}  // namespace ptgc
