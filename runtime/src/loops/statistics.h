// What one generation did and what it cost.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/token.h"

namespace ptgc {

// How drafts of one place in their trees fared.
struct DraftCount {
  int depth = 0;              // Of the draft; a child of the root has depth 1.
  int rank = 0;               // Among its siblings, from 0.
  std::int64_t tried = 0;     // Drafts there whose parent was accepted.
  std::int64_t accepted = 0;  // How many of them were accepted.
};

// Counts and times of one generation. The rounds up to the one that gives the first new tokens are
// prefill; all later ones are decode rounds.
struct Statistics {
  std::int64_t prompt_tokens = 0;              // Tokens before the first new one.
  std::int64_t new_tokens = 0;                 // Tokens generated.
  std::int64_t rounds = 0;                     // Decode rounds.
  std::int64_t plain_rounds = 0;               // Decode rounds without draft tokens.
  std::optional<std::string> fallback_reason;  // Why drafts were mostly declined, if they were.
  // Draft tokens verified. Rows that are run for their answers only, as in the window of lookahead,
  // are none.
  std::int64_t drafted_tokens = 0;
  std::int64_t accepted_tokens = 0;      // Draft tokens accepted.
  std::vector<DraftCount> draft_counts;  // The same by depth and rank, in that order.
  std::int64_t ahead_tokens = 0;         // Draft tokens made while the target verified others.
  std::int64_t ahead_used_tokens = 0;    // How many of them were verified.
  double mean_accept_length = 0;         // New tokens per decode round.
  double load_seconds = 0;               // Loading the build, once per generator.
  double time_to_first_token = 0;        // From the call, including waiting for a row.
  double prefill_seconds = 0;            // From the row's start to its first new token.
  double decode_seconds = 0;             // From the first new token to the last.
  double engine_seconds = 0;             // Inside engine calls, part of decode_seconds.
  double draft_seconds = 0;              // Drafting, part of decode_seconds.
  double accept_seconds = 0;             // Choosing tokens and accepting drafts, part of it.
  double commit_seconds = 0;             // Moving what was accepted, part of it.
  double tokens_per_second = 0;          // New tokens of decode rounds / decode_seconds.
  std::int64_t peak_memory_bytes = 0;    // Largest resident size of the process so far.
  // On a device, in decode rounds; rows that share a round each count all of it.
  std::int64_t graph_launches = 0;    // Engine runs that were one captured graph.
  std::int64_t uncaptured_runs = 0;   // Engine runs queued piece by piece.
  std::int64_t synchronisations = 0;  // Waits of the host for the device.
};

// One round of one row, recorded on request.
struct TraceRound {
  int width = 0;                     // Rows that the engine ran.
  std::vector<TokenId> drafted_ids;  // Draft tokens verified; node i of their tree is number i - 1.
  std::vector<int> parents;          // The node that each of them follows; 0 is the text's end.
  std::vector<int> path;             // The nodes that were accepted, from the text's end on.
  int part = 0;                      // Which of merged drafters made them.
  bool is_ahead = false;             // Whether they were made during the round before.
  int accepted = 0;                  // How many of them became text.
  std::vector<TokenId> emitted_ids;  // New tokens; none while a prompt is being read.
  std::vector<int> filled_positions;  // Positions of a canvas that were filled, in its order ...
  std::vector<TokenId> filled_ids;    // ... their tokens ...
  std::vector<float> confidences;     // ... and the probabilities of these.
  double engine_seconds = 0;          // Inside engine calls.
  double draft_seconds = 0;           // Drafting, including engine calls.
  double accept_seconds = 0;          // Choosing tokens and accepting drafts.
  double commit_seconds = 0;          // Moving what was accepted.
  double round_seconds = 0;           // The whole round.
};

}  // namespace ptgc
