// CanvasLoop: denoise -> choose positions -> write, until nothing is masked.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/token.h"
#include "bundle/plan.h"
#include "loops/decode_loop.h"
#include "models/denoiser.h"

namespace ptgc {

// Fills the masked positions of texts (MaskGIT, arXiv 2202.04200; LLaDA, arXiv 2502.09992). A mask
// token is appended to a prompt for every new token that is wanted; these are emitted block by
// block. A prompt that contains mask tokens is filled in instead: the result begins at the first
// mask and is emitted when it is complete. The graph chooses which positions a round fills.
//
// With a block cache (BD3-LM, arXiv 2503.09573) a round reads a text from the first block that is
// not in the cache to the block being filled. A filled block enters the cache in the first round of
// the next block, and so do the last blocks of a prompt.
class CanvasLoop : public DecodeLoop {
 public:
  // `sessions` has one per row of the batch.
  CanvasLoop(std::unique_ptr<Denoiser> denoiser, const CanvasPlan& plan, int max_length,
             std::span<Session* const> sessions);

  bool has_prefill() const override { return false; }
  void Start(const Session& session, const Request& request) override;
  RoundReport Round(std::span<Turn> turns) override;
  void Begin(const Session& session) override;
  void Rewind(Session& session) override;
  void Fork(const Session& from, Session& to) override;
  void Clear() override;
  std::vector<double> Measure(const EngineRuns& runs) override;

 private:
  // The text of one row while it is being written.
  struct Canvas {
    std::vector<TokenId> ids;  // The whole text.
    bool fills_in = false;     // Whether the prompt contained the masks.
    int first = 0;             // First position of the first block with masks.
    int end = 0;               // One after the last position.
    int written = 0;           // Positions in the session's text.
    int block = 0;             // First position of the block being filled.
    int masked = 0;            // Masked positions of this block.
    int rounds_left = 0;       // Rounds left for it.
    int held = 0;              // Positions in the cache, in whole blocks.
  };
  int BlockLength(const Canvas& canvas) const;
  int RoundsOfBlock(const Canvas& canvas) const;
  bool IsMasked(const Canvas& canvas, int position) const;
  int MaskedInBlock(const Canvas& canvas) const;
  void NextBlock(Canvas& canvas) const;
  void CheckProgress(const Canvas& canvas) const;
  int Held(int row, int length) const;
  CanvasRow RowOf(const Canvas& canvas) const;
  void Take(Canvas& canvas, int index) const;
  void Emit(Canvas& canvas, Turn& turn) const;
  bool has_cache() const { return plan_.cache == CanvasCache::kBlock; }

  std::unique_ptr<Denoiser> denoiser_;  // Runs the rounds.
  CanvasPlan plan_;                     // The policies.
  std::vector<Session*> sessions_;      // [batch]
  std::vector<Canvas> canvases_;        // [batch]
  std::vector<CanvasRow> rows_;         // [batch], inputs of a round.
};

}  // namespace ptgc
