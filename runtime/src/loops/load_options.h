// LoadOptions: how a build's engines are loaded, and how its loop uses them.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/names.h"
#include "drafters/reencoding.h"
#include "engines/engine.h"

namespace ptgc {

// Loaded engines by role.
using Engines = std::map<std::string, std::unique_ptr<Engine>>;
// Measured seconds of a round, by width.
using Costs = std::map<int, double>;
// How engines are loaded, and how the loop uses them.
struct LoadOptions {
  int num_threads = 0;                 // Threads of an engine; 0: its default.
  std::string library;                 // The engine library's file; empty: searched.
  const void* ort_api_base = nullptr;  // ONNX Runtime's OrtApiBase, if already opened.
  std::map<std::string, Costs> costs;  // By role; empty if nothing was measured.
  std::string drafter;                 // The role that drafts; empty: the first.
  DraftLengthMode draft_length = DraftLengthMode::kMeasured;  // How many drafts are verified.
  int num_draft_tokens = -1;                                  // The most drafts; -1: the plan's.
  std::optional<std::vector<int>> tree;      // Parents of a part of the plan's tree.
  std::optional<AcceptanceRule> acceptance;  // Another rule than the plan's.
  std::optional<NgramMatch> ngram_match;     // Another match than the plan's.
  // The probability that each draft of that tree, or of a chain if there is none, is accepted with
  // all before it, in the texts that were tuned on; empty if nobody knows.
  std::vector<double> gains;
  // Whether drafts are made while the target verifies, if the plan allows; none: where processors
  // are left for it, and that pays.
  std::optional<bool> overlap;
  std::optional<bool> tuned_overlap;  // Whether it paid with so many threads; none if not tried.
  std::string datastore;  // The file of a drafter that reads one; empty if none was given.
  Reencoding reencoding;  // For a drafter with its own tokenizer.
};

}  // namespace ptgc
