#include "drafters/text_states.h"

#include <algorithm>
#include <utility>

namespace ptgc {

// There are no states of tokens that the target has not read yet.
bool CanDraftBehind(const CausalModel& model, const DraftRow& row,
                    std::span<const TokenId> unread) {
  const std::size_t committed = static_cast<std::size_t>(row.committed);
  const bool lacks_states = committed == 0 || committed + 1 < row.text.size();
  if (model.states_read() != nullptr && lacks_states) return false;
  return std::all_of(unread.begin(), unread.end(),
                     [&](TokenId token) { return token >= 0 && token < model.vocab_size(); });
}

TextStates::TextStates(std::shared_ptr<Memory> memory, const Port& port, int batch, int max_length)
    : memory_(std::move(memory)),
      row_bytes_(static_cast<std::size_t>(port.last_size) * ItemSize(port.dtype)),
      max_length_(static_cast<std::size_t>(max_length)),
      states_(memory_, static_cast<std::size_t>(batch) * max_length_ * row_bytes_) {}

void TextStates::Keep(int row, const Observation& seen) {
  std::size_t position = seen.committed;
  if (!seen.read.empty()) {
    seen.taps->Copy(0, static_cast<int>(seen.read.size()), At(row, position));
    position += seen.read.size();
  }
  for (int node : seen.path) seen.taps->Copy(seen.Place(node), 1, At(row, position++));
}

void* TextStates::At(int row, std::size_t position) const {
  return states_.At((static_cast<std::size_t>(row) * max_length_ + position) * row_bytes_);
}

void TextStates::CopyRow(int from, int to, int length) {
  memory_->Copy({At(to, 0), 0, At(from, 0), 0, static_cast<std::size_t>(length) * row_bytes_});
}

}  // namespace ptgc
