// SamplingOptions: how a token is chosen from logits.
#pragma once

#include <cstdint>
#include <vector>

#include "base/token.h"

namespace ptgc {

// A number that is added to the logit of one token.
struct LogitBias {
  TokenId token_id = 0;  // The token.
  float bias = 0;        // Finite, or minus infinity: the token is never chosen.
};

// The steps, in the order of transformers and (except that vLLM applies min_p before top_k) of
// vLLM:
//   1. logit_bias is added;
//   2. repetition_penalty, then frequency_penalty and presence_penalty;
//   3. division by the temperature and softmax;
//   4. top_k keeps the k most probable tokens, the lower id of equals first;
//   5. top_p keeps the fewest of them whose share of what top_k left reaches p;
//   6. min_p keeps those at least min_p times as probable as the most probable;
//   7. of the kept tokens, the one with the largest logit / temperature + GumbelNoise is chosen.
// At temperature 0 the choice is the largest logit after step 2, the lowest id of equals.
struct SamplingOptions {
  double temperature = 0;         // 0: the largest logit; or kMin to kMaxTemperature.
  std::int64_t top_k = 0;         // Tokens kept; 0 for all.
  double top_p = 1;               // (0, 1]; 1 keeps all.
  double min_p = 0;               // [0, 1]; 0 keeps all.
  double repetition_penalty = 1;  // [0.01, 100]. Divides a positive logit and multiplies another
                                  // of every token of prompt or text (CTRL, arXiv 1909.05858).
  double presence_penalty = 0;    // [-2, 2]. Subtracted for every token generated so far.
  double frequency_penalty = 0;   // [-2, 2]. Subtracted once per generated occurrence.
  std::vector<LogitBias> logit_bias = {};  // Each token at most once.
  std::uint64_t seed = 0;                  // Equal seeds give equal texts.

  static constexpr double kMinTemperature = 1e-3;
  static constexpr double kMaxTemperature = 1e3;

  bool is_greedy() const { return temperature == 0; }
  // Whether the text so far changes the logits, so that a choice needs TokenCounts.
  bool has_penalties() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
  }
  // Whether the choice is the engine's own argmax, so that no logits need to be read.
  bool is_argmax() const { return is_greedy() && !has_penalties() && logit_bias.empty(); }

  // Throws one usage error that names everything that is out of range.
  void Check(std::int64_t vocab_size) const;
};

}  // namespace ptgc
