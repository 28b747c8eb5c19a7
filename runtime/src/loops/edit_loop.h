// EditLoop: delete -> insert placeholders -> fill, until nothing changes.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "base/token.h"
#include "bundle/plan.h"
#include "engines/engine.h"
#include "loops/decode_loop.h"
#include "models/canvas_buffers.h"
#include "models/encoder.h"

namespace ptgc {

// The engines of an edit loop, in the order of a round.
struct EditEngines {
  std::unique_ptr<Engine> deleter;   // Takes tokens away.
  std::unique_ptr<Engine> inserter;  // Makes room for new ones.
  std::unique_ptr<Engine> filler;    // Writes those.
};

// Edits an empty text about a source (Levenshtein transformer, Gu et al., arXiv 1905.11006). The
// text comes when it is whole.
class EditLoop : public WholeTextLoop {
 public:
  EditLoop(std::unique_ptr<Encoder> encoder, EditEngines engines, const EditPlan& plan,
           const ShapePlan& shapes);

  void Start(const Session& session, const Request& request) override;
  RoundReport Round(std::span<Turn> turns) override;
  std::vector<double> Measure(const EngineRuns& runs) override;

 private:
  // One row's text on its way.
  struct Draft {
    std::vector<TokenId> ids;  // With its begin and end tokens.
    int rounds = 0;            // Done so far.
  };
  // The calls of a round at one canvas length.
  using Calls = std::array<std::unique_ptr<Call>, 3>;

  static double Edit(Calls& calls);
  void Finish(const Draft& draft, Turn& turn) const;
  Calls& BoundCalls(std::size_t index);

  std::unique_ptr<Encoder> encoder_;  // Reads the sources.
  EditEngines engines_;               // The operations.
  EditPlan plan_;                     // The policies.
  int batch_;                         // Sequences.
  std::vector<int> lengths_;          // Sizes of a canvas, ascending.
  std::vector<Draft> drafts_;         // [batch]
  CanvasBuffers front_;               // What an operation reads ...
  CanvasBuffers back_;                // ... and what it makes of it, by turns.
  std::vector<Calls> calls_;          // [canvas length]
  std::vector<Source> sources_;       // [batch], of the texts that begin.
};

}  // namespace ptgc
