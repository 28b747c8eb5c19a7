#include "drafters/likely_tokens.h"

#include <algorithm>
#include <cmath>

#include "drafters/drafter_logits.h"
#include "sampling/target_choice.h"

namespace ptgc {

LikelyTokens::LikelyTokens(AcceptanceRule rule, int count, std::int64_t num_ids)
    : rule_(rule), count_(count), num_ids_(num_ids), sampler_(num_ids) {
  tokens_.reserve(static_cast<std::size_t>(count));
  chosen_.reserve(static_cast<std::size_t>(count));
}

std::span<const LikelyToken> LikelyTokens::Read(const DraftRow& row, const Proposal& path, int node,
                                                int depth, LogitsRow logits) {
  const SamplingOptions& options = row.sampling->options();
  logits.size = std::min(logits.size, num_ids_);
  ReadDrafterLogits(sampler_, &Sampler::ReadDistribution, row, path, node, logits);
  tokens_.clear();
  if (options.is_greedy() || NeedsProbabilities(rule_)) {
    Rank();
  } else {
    const auto position = static_cast<std::int64_t>(row.text.size()) + depth;
    Race(DraftNoise(options, position, rule_, depth));
  }
  return tokens_;
}

void LikelyTokens::Rank() {
  for (int rank = 1; rank <= count_; ++rank) {
    const TokenId token = sampler_.AtRank(rank);
    if (!tokens_.empty() && tokens_.back().token == token) return;  // There are no more.
    const double probability = static_cast<double>(sampler_.Probability(token));
    if (!(probability > 0)) return;
    tokens_.push_back({token, std::min(std::log(probability), 0.0)});
  }
}

// All tokens that are not chosen count together as much as the last one that is.
void LikelyTokens::Race(const GumbelNoise& noise) {
  chosen_.clear();
  double total = 0, first = 0, last = 0;
  for (int rank = 0; rank < count_; ++rank) {
    const TokenId token = sampler_.Choose(noise, chosen_);
    if (token == kNoToken) break;
    const double probability = static_cast<double>(sampler_.Probability(token));
    if (!(probability > 0)) break;
    const double score = std::log(probability) + static_cast<double>(noise.At(token));
    if (rank == 0) first = score;
    last = std::exp(score - first);
    total += last;
    chosen_.push_back(token);
    tokens_.push_back({token, score - first});
  }
  const double scale = std::log(total + last);
  for (LikelyToken& token : tokens_) {
    token.log_probability = std::min(token.log_probability - scale, 0.0);
  }
}

}  // namespace ptgc
