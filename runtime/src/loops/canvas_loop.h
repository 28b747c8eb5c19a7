// CanvasLoop: denoise -> choose positions -> write, until nothing is masked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/token.h"
#include "bundle/plan.h"
#include "loops/canvas_schedule.h"
#include "loops/decode_loop.h"
#include "models/denoiser.h"

namespace ptgc {

// Fills the masked positions of texts (MaskGIT, arXiv 2202.04200; LLaDA, arXiv 2502.09992). A mask
// token is appended to a prompt for every new token that is wanted; these are emitted block by
// block. A prompt that contains mask tokens is filled in instead: the result begins at the first
// mask and is emitted when it is complete. The graph chooses which positions a round fills, in the
// order of its policy; the schedule says how many at least.
//
// With a block cache (BD3-LM, arXiv 2503.09573) a round reads a text from the first block that is
// not in the cache to the block being filled. A filled block enters the cache in the first round of
// the next block, and so do the last blocks of a prompt. The last block of a text is filled to its
// end, of which the text's part is delivered.
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
    std::vector<TokenId> ids;           // The whole text, and what its last block has behind it.
    std::vector<int> filled_positions;  // Positions that the last round filled ...
    std::vector<TokenId> filled_ids;    // ... and their tokens.
    bool fills_in = false;              // Whether the prompt contained the masks.
    int first = 0;                      // First position of the first block with masks.
    int end = 0;                        // One after the last position to fill.
    int length = 0;                     // Positions of the whole text.
    int to_fill = 0;                    // Masked positions before the first round.
    int written = 0;                    // Positions in the session's text.
    int block = 0;                      // First position of the block being filled.
    int masked = 0;                     // Masked positions of this block.
    BlockRounds rounds = {};            // The rounds that it takes.
    int num_steps = 1;                  // Most rounds; see CanvasPlan.
    double threshold = 0;               // Of the policy.
    double temperature = 0;             // Of sampling.
    std::uint64_t seed = 0;             // Of random numbers.
    std::uint32_t round = 0;            // Rounds that filled positions.
    int held = 0;                       // Positions in the cache, in whole blocks.
  };
  int WholeBlocks(int length) const;
  int BlockLength(const Canvas& canvas) const;
  bool IsMasked(const Canvas& canvas, int position) const;
  int MaskedInBlock(const Canvas& canvas) const;
  int Masked(const Canvas& canvas) const;
  void BeginBlock(Canvas& canvas, int block) const;
  int FilledLength(const Canvas& canvas, std::span<const TokenId> eos_token_ids) const;
  void CheckProgress(const Canvas& canvas) const;
  int Held(int row, int length) const;
  CanvasRow RowOf(const Canvas& canvas) const;
  void Take(Canvas& canvas, int index) const;
  void Emit(Canvas& canvas, Turn& turn) const;
  bool has_cache() const { return plan_.cache == CanvasCache::kBlock; }

  std::unique_ptr<Denoiser> denoiser_;  // Runs the rounds.
  CanvasPlan plan_;                     // The policies.
  int max_length_;                      // Most positions of a text.
  std::vector<Session*> sessions_;      // [batch]
  std::vector<Canvas> canvases_;        // [batch]
  std::vector<CanvasRow> rows_;         // [batch], inputs of a round.
};

}  // namespace ptgc
