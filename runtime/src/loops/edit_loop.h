// EditLoop: one operation after the other, until nothing changes.
#pragma once

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

// Edits a source, or an empty text with a source: a Levenshtein transformer deletes, inserts and
// fills (Gu et al., arXiv 1905.11006), an insertion transformer inserts (Stern et al., arXiv
// 1902.03249). The text is emitted when it is finished.
class EditLoop : public WholeTextLoop {
 public:
  // `encoder` is null if the operations read only the text.
  EditLoop(std::unique_ptr<Encoder> encoder, Engines engines, const EditPlan& plan,
           const ShapePlan& shapes);

  void Start(const Session& session, const Request& request) override;
  RoundReport Round(std::span<Turn> turns) override;
  std::vector<double> Measure(const EngineRuns& runs) override;

 private:
  // The text of one row while it is being edited.
  struct Draft {
    std::vector<TokenId> ids;  // With its begin and end tokens.
    int rounds = 0;            // Rounds done so far.
  };
  // The calls of a round at one canvas length.
  using Calls = std::vector<std::unique_ptr<Call>>;

  void StartEncoder(std::span<const Turn> turns);
  double WaitForEncoder();
  static double Edit(Calls& calls);
  void Finish(const Draft& draft, Turn& turn) const;
  Calls& BoundCalls(std::size_t index);

  std::unique_ptr<Encoder> encoder_;  // Reads the sources.
  Engines engines_;                   // The operations, by role.
  EditPlan plan_;                     // The policies.
  int batch_;                         // Sequences.
  std::vector<int> lengths_;          // Sizes of a canvas, ascending.
  std::vector<Draft> drafts_;         // [batch]
  CanvasBuffers front_;               // Input and output of operations, ...
  CanvasBuffers back_;                // ... in alternating roles.
  const CanvasBuffers& made_;         // The one that holds a round's result.
  std::vector<Calls> calls_;          // [canvas length]
  std::vector<Source> sources_;       // [batch], of texts that begin.
};

}  // namespace ptgc
