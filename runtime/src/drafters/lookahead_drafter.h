// LookaheadDrafter: drafts n-grams that the target itself wrote beside the text.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bundle/plan.h"
#include "drafters/drafter_seat.h"
#include "drafters/lookahead_pool.h"
#include "drafters/lookup_drafter.h"

namespace ptgc {

class Fields;

// The plan's parameters of it, with the paper's names.
struct LookaheadParameters : DrafterParameters {
  int window_size = 2;   // W: positions of the window.
  int ngram_size = 2;    // N: tokens of an n-gram, its first one included.
  int num_branches = 1;  // G: most n-grams that are verified together.

  // Cells of the largest window. While its levels are filled, it has more columns.
  int cells() const;
  std::string Misfit(int num_draft_tokens, const TreeSpec& tree) const override;
};

void ReadLookahead(const Fields& data, DrafterPlan& plan);
std::unique_ptr<Drafter> MakeLookahead(DrafterSeat& seat);

// Source: Lookahead decoding, Fu et al., arXiv 2402.02057, section 3. Beside the text, the target
// runs a window of W columns: in each, the N - 1 last steps of a Jacobi iteration for one position
// after the other. With x the last token of the text, W = 3 and N = 4:
//
//   position    0  1  2  3  4
//   level 0     x  a1 a2            a token sees level 0 up to its own column,
//   level 1        b0 b1 b2         and of its column the levels above it
//   level 2           c0 c1 c2
//   answers              d0 d1 d2   x b0 c0 d0, a1 b1 c1 d1, a2 b2 c2 d2 go into the pool
//
// The next round's levels are b, c and d, after the new x. Those n-grams of the pool that begin
// with x are verified as a tree in the same run, and only they can be accepted.
class LookaheadDrafter : public LookupDrafter {
 public:
  LookaheadDrafter(int batch, const LookaheadParameters& parameters);

  void Begin(int row) override;
  // A window that continues another text is as good as any.
  void CopyRow(int from, int to) override { RowOf(to) = RowOf(from); }
  int Propose(const DraftRow& row) override;
  void Draft(std::span<const DraftRow> rows) override;
  void Observe(int row, const Observation& seen) override;

 private:
  // The state of one sequence. While levels are being filled, there are as many more columns as
  // levels are missing, because the text reaches one column with each round.
  struct Row {
    LookaheadPool pool;          // N-grams of this text.
    std::vector<TokenId> cells;  // [levels, columns], the first is not used: it is x.
    std::vector<int> nodes;      // [levels, columns], each cell's node in the proposal.
    std::size_t levels = 0;      // Levels filled so far.
    std::size_t columns = 0;     // Columns of each.
    int proposed = 0;            // Drafts of this round if the window is among them.
    TokenId& Cell(std::size_t level, std::size_t column) { return cells[level * columns + column]; }
    int& Node(std::size_t level, std::size_t column) { return nodes[level * columns + column]; }
  };
  Row& RowOf(int row) { return rows_[static_cast<std::size_t>(row)]; }
  void AddBranches(const DraftRow& row);
  void AddWindow(const DraftRow& row);
  void FillFirstLevel(Row& own, std::span<const TokenId> text) const;
  void FillNextLevel(Row& own, std::span<const TokenId> answers);
  void Harvest(Row& own, TokenId root, std::span<const TokenId> answers);

  std::size_t num_levels_;      // N - 1.
  std::size_t window_size_;     // W.
  std::vector<Row> rows_;       // [batch]
  std::vector<TokenId> ngram_;  // [N - 1], scratch.
};

}  // namespace ptgc
