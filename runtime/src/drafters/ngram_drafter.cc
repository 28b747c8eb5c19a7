#include "drafters/ngram_drafter.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "bundle/json_document.h"

namespace ptgc {

void ReadNgram(const Fields& data, DrafterPlan& plan) {
  auto parameters = std::make_shared<NgramParameters>();
  parameters->longest_match = static_cast<int>(data.Integer("max_ngram_size", limits::kNgramSize));
  parameters->shortest_match = static_cast<int>(data.Integer("min_ngram_size", limits::kNgramSize));
  parameters->match = data.Choice<NgramMatch>("ngram_match", NgramMatch::kLatest);
  if (parameters->longest_match < parameters->shortest_match) {
    data.Add("max_ngram_size", " is below min_ngram_size: n-gram sizes are out of order.");
  }
  plan.parameters = std::move(parameters);
}

std::unique_ptr<Drafter> MakeNgram(DrafterSeat& seat) {
  NgramParameters parameters = seat.plan.drafter.Own<NgramParameters>();
  parameters.match = seat.options.ngram_match.value_or(parameters.match);
  return std::make_unique<NgramDrafter>(parameters);
}

int NgramDrafter::Propose(const DraftRow& row) {
  const std::span<const TokenId> text = row.text;
  if (text.size() < 2 || row.limit <= 0) return 0;
  const bool first = parameters_.match == NgramMatch::kFirst;
  const Match match = first ? First(text) : Latest(text);
  if (match.next == 0) return 0;
  Proposal& proposal = *row.proposal;
  std::size_t next = match.next;
  for (int i = 0; i < row.limit; ++i, ++next) {
    if (next < text.size()) {
      proposal.Append(text[next]);
    } else if (first) {
      break;
    } else {
      proposal.Append(proposal.tokens()[next - text.size()]);
    }
  }
  proposal.set_match_length(static_cast<int>(match.length));
  return proposal.size();
}

NgramDrafter::Match NgramDrafter::Latest(std::span<const TokenId> text) const {
  const std::size_t max_length = static_cast<std::size_t>(parameters_.longest_match);
  const std::size_t last = text.size() - 1;
  Match best;
  std::size_t length = static_cast<std::size_t>(parameters_.shortest_match) - 1;  // Longest so far.
  for (std::size_t end = last; end-- > length && length < max_length;) {
    // A longer match must also agree `length` tokens back, which quickly rules out most places.
    if (text[end] != text[last] || text[end - length] != text[last - length]) continue;
    std::size_t agreed = 1;
    while (agreed < max_length && agreed <= end && text[end - agreed] == text[last - agreed]) {
      ++agreed;
    }
    if (agreed <= length) continue;
    length = agreed;
    best = {end + 1, length};
  }
  return best;
}

NgramDrafter::Match NgramDrafter::First(std::span<const TokenId> text) const {
  const std::size_t most =
      std::min(static_cast<std::size_t>(parameters_.longest_match), text.size() - 1);
  for (std::size_t length = most; length >= static_cast<std::size_t>(parameters_.shortest_match);
       --length) {
    const std::span<const TokenId> end = text.last(length);
    const auto found = std::search(text.begin(), text.end() - 1, end.begin(), end.end());
    if (found == text.end() - 1) continue;
    return {static_cast<std::size_t>(found - text.begin()) + length, length};
  }
  return {};
}

}  // namespace ptgc
