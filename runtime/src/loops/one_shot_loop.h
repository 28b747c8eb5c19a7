// OneShotLoop: encode -> decode once -> collapse.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "bundle/plan.h"
#include "engines/engine.h"
#include "loops/decode_loop.h"
#include "models/canvas_buffers.h"
#include "models/encoder.h"

namespace ptgc {

// Writes a whole text in one round. Repeats and blanks are dropped inside the graph (CTC; Libovicky
// and Helcl, arXiv 1811.04719).
class OneShotLoop : public WholeTextLoop {
 public:
  OneShotLoop(std::unique_ptr<Encoder> encoder, std::unique_ptr<Engine> decoder,
              const OneShotPlan& plan, const ShapePlan& shapes);

  RoundReport Round(std::span<Turn> turns) override;
  std::vector<double> Measure(const EngineRuns& runs) override;

 private:
  std::unique_ptr<Encoder> encoder_;  // Reads the sources.
  std::unique_ptr<Engine> decoder_;   // Writes the texts.
  int source_length_;                 // Most tokens of a source.
  int canvas_length_;                 // Rows of a run.
  CanvasBuffers texts_;               // The texts that it writes.
  std::unique_ptr<Call> call_;        // The decoder's only call.
  std::vector<Source> sources_;       // [batch], of the round.
};

}  // namespace ptgc
