// RowSampling: how the tokens of one row are chosen from logits.
#pragma once

#include <memory>
#include <span>

#include "base/token.h"
#include "sampling/sampling_options.h"
#include "sampling/token_counts.h"

namespace ptgc {

// The options of a row's request, and the counts that its penalties need.
class RowSampling {
 public:
  // Starts a request after `text`, which counts as its prompt. Allocates storage when penalties
  // need it for the first time.
  void Begin(const SamplingOptions& options, std::span<const TokenId> text, std::int64_t vocab_size,
             int max_length) {
    options_ = options;
    if (!options_.has_penalties()) return;
    if (counts_ == nullptr) counts_ = std::make_unique<TokenCounts>(vocab_size, max_length);
    counts_->Clear();
    counts_->AppendPrompt(text);
  }
  // Records a token that was added to the text.
  void Push(TokenId token) {
    if (TokenCounts* counted = counts()) counted->Push(token);
  }

  const SamplingOptions& options() const { return options_; }
  // Null if the options have no penalties.
  TokenCounts* counts() { return options_.has_penalties() ? counts_.get() : nullptr; }

 private:
  SamplingOptions options_;              // The request's options.
  std::unique_ptr<TokenCounts> counts_;  // Counts of the row's text; reused by the next request.
};

}  // namespace ptgc
