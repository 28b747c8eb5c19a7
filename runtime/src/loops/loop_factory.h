// What a build's loop is made of: its engines, and the options that it is loaded with.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/names.h"
#include "bundle/bundle.h"
#include "drafters/reencoding.h"
#include "engines/engine.h"
#include "loops/decode_loop.h"
#include "loops/session.h"

namespace ptgc {

// Loaded engines by role.
using Engines = std::map<std::string, std::unique_ptr<Engine>>;
// Measured seconds of a round, by width.
using Costs = std::map<int, double>;
// How engines are loaded, and how the loop uses them.
struct LoadOptions {
  int num_threads = 0;                 // Threads of an engine; 0: its choice.
  std::string library;                 // The engine library; empty: found.
  const void* ort_api_base = nullptr;  // ONNX Runtime's, where the process has opened it already.
  std::map<std::string, Costs> costs;  // By role; none where nothing was measured.
  DraftLengthMode draft_length = DraftLengthMode::kMeasured;  // How many drafts are verified.
  int num_draft_tokens = -1;                                  // The most drafts; -1: the plan's.
  std::optional<AcceptanceRule> acceptance;                   // Another rule than the plan's.
  std::optional<NgramMatch> ngram_match;                      // Another match than the plan's.
  Reencoding reencoding;  // For a drafter with a tokenizer of its own.
};

// The loop of a build over `sessions`, one per row of the batch. Throws usage errors for options
// that contradict the plan.
std::unique_ptr<DecodeLoop> MakeLoop(const Bundle& bundle, Engines engines,
                                     const LoadOptions& options,
                                     std::span<Session* const> sessions);

}  // namespace ptgc
