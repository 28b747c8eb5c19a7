// OneShotLoop: encode -> decode once -> collapse.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "buffer.h"
#include "decode_loop.h"
#include "encoder.h"
#include "engine.h"
#include "plan.h"

namespace ptgc {

// Writes a whole text in one round. Repeats and blanks are dropped inside the graph (CTC; Libovicky
// and Helcl, arXiv 1811.04719).
class OneShotLoop : public DecodeLoop {
 public:
  OneShotLoop(std::unique_ptr<Encoder> encoder, std::unique_ptr<Engine> decoder,
              const OneShotPlan& plan, const ShapePlan& shapes);

  bool has_prefill() const override { return false; }
  void Start(const Session&, const Request&) override {}
  RoundReport Round(std::span<Turn> turns) override;
  void Begin(const Session&) override {}
  void Rewind(Session&) override {}
  void Fork(const Session&, Session&) override {}
  void Clear() override {}
  std::vector<double> Measure(const EngineRuns& runs) override;

 private:
  std::unique_ptr<Encoder> encoder_;  // Reads the sources.
  std::unique_ptr<Engine> decoder_;   // Writes the texts.
  int source_length_;                 // Tokens of a source at most.
  int canvas_length_;                 // Rows of a run.
  Buffer output_ids_;                 // [batch, canvas_length]
  Buffer output_lengths_;             // [batch]
  std::unique_ptr<Call> call_;        // Bound once.
  std::vector<Source> sources_;       // [batch], of the round.
};

}  // namespace ptgc
