// An engine that speaks the made-up language, and builds that use it.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bundle/bundle.h"
#include "drafters/draft_model.h"
#include "drafters/ngram_drafter.h"
#include "drafters/suffix_drafter.h"
#include "engines/engine.h"
#include "language.h"
#include "loops/loop_factory.h"

namespace ptgc {

// What the engine saw; outlives it.
struct Observations {
  int runs = 0;             // Engine runs.
  int broken_texts = 0;     // Rows that did not see each position up to their own exactly once.
  int out_of_bounds = 0;    // Rows or positions outside the cache or the context.
  std::vector<int> widths;  // Width of each bound call.
};

// Keeps token ids in the keys and positions in the values of a cache with one layer, and reads the
// text of every row back from what the masks let it see. A wrong cache, mask, position or rollback
// changes what it says.
class SubstituteEngine : public Engine {
 public:
  // With `wrong_every` n above 0 it errs at every n-th position: a drafter.
  explicit SubstituteEngine(Observations& observations, std::set<std::string> absent_inputs = {},
                            int wrong_every = 0)
      : observations_(observations),
        absent_inputs_(std::move(absent_inputs)),
        wrong_every_(wrong_every) {}

  bool HasInput(std::string_view name) const override {
    return !absent_inputs_.contains(std::string(name));
  }
  std::unique_ptr<Call> Bind(std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) override;

 private:
  Observations& observations_;           // Where it writes what it saw.
  std::set<std::string> absent_inputs_;  // Ports that its graph does not have.
  int wrong_every_;                      // How often it errs.
};

// Shapes: widths 1 to 16, up to 8 rows verified, caches of 48 and 144 slots for 128 tokens.
Bundle SubstituteBundle(int batch, const DrafterPlan& drafter);
// Up to 7 drafts from matches of 1 to 4 tokens.
DrafterPlan NgramPlan();
// Up to `num_draft_tokens` drafts of a model.
DrafterPlan ModelPlan(int num_draft_tokens,
                      DrafterVocabulary vocabulary = DrafterVocabulary::kShared);
// The same, made while the target verifies others.
DrafterPlan OverlapPlan(int num_draft_tokens);
// Up to 7 drafts behind suffixes of any length.
DrafterPlan SuffixPlan();
// Up to 7 drafts from a datastore.
DrafterPlan DatastorePlan();
// Drafters of which each row asks one.
DrafterPlan MergedPlan(std::vector<DrafterPlan> parts);
NgramParameters NgramSizes(int shortest, int longest, NgramMatch match = NgramMatch::kLatest);
// Engines for the roles of such a bundle; a drafter errs at every third position.
Engines SubstituteEngines(Observations& target, Observations* drafter = nullptr);

}  // namespace ptgc
