#include "drafters/draft_length.h"

#include <algorithm>
#include <cstddef>

namespace ptgc {
double DraftLength::Gain(std::span<const DraftOffer> offers, int drafts) {
  double gain = 0;
  for (const DraftOffer& offer : offers) {
    if (drafts <= offer.tokens()) gain += offer.gains[static_cast<std::size_t>(drafts) - 1];
  }
  return gain;
}

int DraftLength::Rows(std::span<const DraftOffer> offers, int drafts) {
  int rows = 1;
  for (const DraftOffer& offer : offers) {
    rows = std::max(rows, offer.chunk + std::min(drafts, offer.tokens()));
  }
  return rows;
}

}  // namespace ptgc
