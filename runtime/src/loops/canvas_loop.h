// CanvasLoop: denoise -> choose positions -> write, until nothing is masked.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/token.h"
#include "bundle/plan.h"
#include "engines/engine.h"
#include "loops/decode_loop.h"
#include "models/canvas_buffers.h"

namespace ptgc {

// Fills the masked positions of texts (MaskGIT, arXiv 2202.04200; LLaDA, arXiv 2502.09992). Behind
// a prompt, a mask token is appended for every new token that is wanted; these are emitted block by
// block. A prompt that contains mask tokens is filled in instead: the result begins at the first of
// them and is emitted when it is whole. The graph chooses which positions a round fills.
class CanvasLoop : public WholeTextLoop {
 public:
  // `sessions` has one per row of the batch.
  CanvasLoop(std::unique_ptr<Engine> denoiser, const CanvasPlan& plan, const ShapePlan& shapes,
             std::span<Session* const> sessions);

  void Start(const Session& session, const Request& request) override;
  RoundReport Round(std::span<Turn> turns) override;
  std::vector<double> Measure(const EngineRuns& runs) override;

 private:
  // The text of one row while it is being written.
  struct Canvas {
    std::vector<TokenId> ids;  // All of it.
    bool fills_in = false;     // Whether the prompt held the masks.
    int first = 0;             // First masked position.
    int end = 0;               // Behind the last one.
    int written = 0;           // Positions that the session holds.
    int block = 0;             // First position of the block that is being filled.
    int rounds_left = 0;       // Of this block.
  };
  int BlockLength(const Canvas& canvas) const;
  int RoundsOfBlock(const Canvas& canvas) const;
  bool IsMasked(const Canvas& canvas, int position) const;
  int MaskedInBlock(const Canvas& canvas) const;
  void NextBlock(Canvas& canvas) const;
  void CheckProgress(const Canvas& canvas) const;
  void Write(const Canvas& canvas, int row, int length);
  void Emit(Canvas& canvas, Turn& turn) const;
  Call& BoundCall(std::size_t index);

  std::unique_ptr<Engine> engine_;            // Runs the denoiser.
  CanvasPlan plan_;                           // The policies.
  int batch_;                                 // Sequences.
  std::vector<int> lengths_;                  // Sizes of a canvas, ascending.
  std::vector<Canvas> canvases_;              // [batch]
  CanvasBuffers in_;                          // What a round begins with ...
  CanvasBuffers out_;                         // ... and what it makes of it.
  Buffer step_;                               // [batch], positions to fill at least.
  Buffer threshold_;                          // [batch], of the policy.
  std::vector<std::unique_ptr<Call>> calls_;  // [canvas length]
};

}  // namespace ptgc
