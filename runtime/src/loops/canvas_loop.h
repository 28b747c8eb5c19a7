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
#include "loops/canvas_slots.h"
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
//
// With drafted steps (Self Speculative Decoding, arXiv 2510.04147; Spiffy, arXiv 2509.18085) the
// next steps are drafted as if the predictions of the last run stayed as they are, and the canvas
// after each of them is a further row of the next run. A canvas that is what the steps before it
// really leave was rightly read, so what the run filled into it is the next step. Every canvas is
// thus that of filling step by step.
//
// Caches that approximate (Fast-dLLM, arXiv 2505.22618, section 3.2; dKV-Cache, arXiv 2505.15781)
// keep keys and values that would change. Some rounds read the whole canvas anew, others only what
// is not kept: with `prefix` what lies before the block is kept from the block's first round on,
// with `dual` also what lies behind it, and with `delayed` every token from the round after it was
// filled.
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
    std::vector<TokenId> filled_ids;    // ... their tokens ...
    std::vector<float> confidences;     // ... and the probabilities of these.
    std::vector<TokenId> row_ids;       // Tokens that a round over kept positions reads.
    CanvasSlots slots;                  // Which positions are kept.
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
    int drafts = 0;                     // Canvases after it that hold its drafted steps.
  };
  int WholeBlocks(int length) const;
  int BlockLength(const Canvas& canvas) const;
  bool IsMasked(const Canvas& canvas, int position) const;
  int MaskedInBlock(const Canvas& canvas) const;
  int Masked(std::span<const TokenId> ids) const;
  void BeginBlock(Canvas& canvas, int block) const;
  int FilledLength(const Canvas& canvas, std::span<const TokenId> eos_token_ids) const;
  void CheckProgress(const Canvas& canvas) const;
  int Held(int row, int length) const;
  CanvasRow RowOf(Canvas& canvas) const;
  CanvasRow BlocksOf(const Canvas& canvas) const;
  CanvasRow ChangingOf(Canvas& canvas) const;
  bool Keeps(const Canvas& canvas, int position) const;
  int BlockEnd(const Canvas& canvas) const;
  int IndexOf(const Session& session) const;
  void Take(Canvas& canvas, int index) const;
  int TakeDrafted(int first, Turn& turn);
  void Draft(int first, int last);
  void Emit(Canvas& canvas, Turn& turn) const;

  std::unique_ptr<Denoiser> denoiser_;  // Runs the rounds.
  CanvasPlan plan_;                     // The policies.
  int max_length_;                      // Most positions of a text.
  std::vector<Session*> sessions_;      // [batch]
  std::vector<Canvas> canvases_;        // [batch, 1 + num_draft_steps], drafts after their text.
  std::vector<CanvasRow> rows_;         // The same size, inputs of a round.
  std::vector<int> order_;              // Masked positions of a block, the next to be filled first.
};

}  // namespace ptgc
