// Request and Result: input and output of a generator.
#pragma once

#include <vector>

#include "base/names.h"
#include "base/token.h"
#include "loops/canvas_options.h"
#include "loops/statistics.h"
#include "sampling/sampling_options.h"

namespace ptgc {

// One text to write.
struct Request {
  std::vector<TokenId> prompt_ids;     // What to continue; in a session, what to add first.
  int max_new_tokens = 0;              // Most tokens to write.
  std::vector<TokenId> eos_token_ids;  // Any of them ends the text and is its last token.
  bool plain = false;                  // Decode without drafts.
  double deadline_seconds = 0;         // The text ends after this time; 0 for no limit.
  bool trace = false;                  // Record what every round did.
  SamplingOptions sampling;            // How tokens are chosen.
  CanvasOptions canvas;                // How a canvas is filled.
};

// One text, written.
struct Result {
  std::vector<TokenId> token_ids;                      // The new tokens.
  FinishReason finish_reason = FinishReason::kLength;  // Why the text ended.
  Statistics statistics;                               // What was done and what it cost.
  std::vector<TraceRound> trace;                       // Every round, if requested.
};

}  // namespace ptgc
