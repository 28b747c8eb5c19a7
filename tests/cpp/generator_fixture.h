// A generator over the made-up language, and requests for it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "serving/generator.h"
#include "substitute_engine.h"
#include "watched_engine.h"

namespace ptgc {

// What the generator is to be like.
struct FixtureOptions {
  int batch = 1;                            // Rows.
  Waiting waiting = {};                     // How long calls wait.
  DrafterPlan drafter = NgramPlan();        // What drafts.
  std::function<void()> before_run = {};    // Runs before every run of the target; may be empty.
  LoadOptions load = {};                    // How the build is loaded.
  int wrong_every = 3;                      // How often a model that drafts errs.
  std::function<void()> before_draft = {};  // Runs before every run of it; may be empty.
};

struct GeneratorFixture {
  explicit GeneratorFixture(FixtureOptions options)
      : generator(SubstituteBundle(options.batch, options.drafter), MakeEngines(options),
                  {.load = options.load, .waiting = options.waiting}) {}

  Engines MakeEngines(const FixtureOptions& options) {
    const bool has_model = options.drafter.Parts().back().kind == "model";
    Engines engines = SubstituteEngines(seen, has_model ? &drafter_seen : nullptr);
    if (has_model) {
      engines["drafter"] = std::make_unique<SubstituteEngine>(drafter_seen, std::set<std::string>(),
                                                              options.wrong_every);
    }
    if (options.before_draft) {
      engines["drafter"] =
          std::make_unique<WatchedEngine>(std::move(engines["drafter"]), options.before_draft);
    }
    if (options.before_run) {
      engines["target"] =
          std::make_unique<WatchedEngine>(std::move(engines["target"]), options.before_run);
    }
    return engines;
  }

  Observations seen;          // By the target.
  Observations drafter_seen;  // By the drafter.
  Generator generator;
};

inline Request Ask(int max_new_tokens, const std::vector<TokenId>& prompt = {}) {
  Request request;
  request.prompt_ids = prompt;
  request.max_new_tokens = max_new_tokens;
  return request;
}

template <typename Action>
ErrorCode CodeOf(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

}  // namespace ptgc
