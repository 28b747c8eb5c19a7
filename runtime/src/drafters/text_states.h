// TextStates: the target's hidden states of whole texts, until a drafter has read them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/memory.h"
#include "base/token.h"
#include "bundle/bundle.h"
#include "drafters/drafter.h"
#include "models/causal_model.h"

namespace ptgc {

// Whether a model can draft behind a row's text: it has tokens like those that it has not read yet
// and, if it reads hidden states, the target has read all tokens whose states it needs.
bool CanDraftBehind(const CausalModel& model, const DraftRow& row, std::span<const TokenId> unread);

class TextStates {
 public:
  // Of texts of at most `max_length` tokens, as a port has them, in the memory of an engine.
  TextStates(std::shared_ptr<Memory> memory, const Port& port, int batch, int max_length);

  // Keeps those of the tokens that a run of the target added to a row's text.
  void Keep(int row, const Observation& seen);
  // Those of a token of the text, and behind it those of the following ones.
  void* At(int row, std::size_t position) const;
  // The first tokens of one row's text become another's.
  void CopyRow(int from, int to, int length);

 private:
  std::shared_ptr<Memory> memory_;  // Where they lie.
  std::size_t row_bytes_;           // Of one token.
  std::size_t max_length_;          // Tokens of a text.
  Block states_;                    // [batch, max_length, size]
};

}  // namespace ptgc
