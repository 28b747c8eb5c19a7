#include "drafters/lookahead_drafter.h"

#include <algorithm>
#include <utility>

#include "bundle/json_document.h"

namespace ptgc {
namespace {

// N-grams that are kept for a text. Few texts find more, and older ones are seldom accepted.
constexpr std::size_t kPoolCapacity = 4096;

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

int LookaheadParameters::cells() const {
  int most = 0;
  for (int levels = 1; levels < ngram_size; ++levels) {
    most = std::max(most, levels * (window_size + ngram_size - 1 - levels));
  }
  return most;
}

std::string LookaheadParameters::Misfit(int num_draft_tokens, const TreeSpec& tree) const {
  const int needed = cells() - 1 + num_branches * (ngram_size - 1);
  if (tree.is_chain()) return " drafts trees; plan.tree is none.";
  if (std::min(num_draft_tokens, tree.num_nodes() - 1) >= needed) return "";
  return ".num_draft_tokens and plan.tree must have room for the " + std::to_string(needed) +
         " tokens of a round.";
}

void ReadLookahead(const Fields& data, DrafterPlan& plan) {
  auto parameters = std::make_shared<LookaheadParameters>();
  parameters->window_size = static_cast<int>(data.Integer("window_size", limits::kWindowSize));
  parameters->ngram_size = static_cast<int>(data.Integer("ngram_size", limits::kPooledNgram));
  parameters->num_branches = static_cast<int>(data.Integer("num_branches", limits::kBranches));
  parameters->shortest_match = 1;
  parameters->longest_match = 2;
  parameters->fills_tree = false;
  plan.parameters = std::move(parameters);
}

std::unique_ptr<Drafter> MakeLookahead(DrafterSeat& seat) {
  return std::make_unique<LookaheadDrafter>(seat.bundle.shapes.batch,
                                            seat.plan.drafter.Own<LookaheadParameters>());
}

LookaheadDrafter::LookaheadDrafter(int batch, const LookaheadParameters& parameters)
    : num_levels_(Size(parameters.ngram_size) - 1),
      window_size_(Size(parameters.window_size)),
      ngram_(num_levels_) {
  const std::size_t cells = Size(parameters.cells());
  for (int row = 0; row < batch; ++row) {
    rows_.push_back({LookaheadPool(parameters.ngram_size, parameters.num_branches, kPoolCapacity),
                     std::vector<TokenId>(cells), std::vector<int>(cells)});
  }
}

void LookaheadDrafter::Begin(int row) {
  RowOf(row).pool.Clear();
  RowOf(row).levels = 0;
}

int LookaheadDrafter::Propose(const DraftRow& row) {
  RowOf(row.row).proposed = 0;
  if (row.text.empty()) return 0;
  AddBranches(row);
  AddWindow(row);
  row.proposal->set_match_length(1);
  return row.proposal->size();
}

// Drafts of a part of the window would be of no use.
void LookaheadDrafter::Draft(std::span<const DraftRow> rows) {
  for (const DraftRow& row : rows) {
    if (row.limit >= row.proposal->size()) continue;
    row.proposal->Truncate(std::min(row.limit, row.proposal->num_acceptable()));
    RowOf(row.row).proposed = 0;
  }
}

void LookaheadDrafter::AddBranches(const DraftRow& row) {
  LookaheadPool& pool = RowOf(row.row).pool;
  for (const std::size_t ngram : pool.Find(row.text.back())) {
    int node = 0;
    for (const TokenId token : pool.Rest(ngram)) {
      if (row.proposal->size() == row.limit) return;
      node = row.proposal->Add(node, token);
    }
  }
}

// A token that several columns have after the same tokens is one node.
void LookaheadDrafter::AddWindow(const DraftRow& row) {
  Row& own = RowOf(row.row);
  if (own.levels == 0) FillFirstLevel(own, row.text);
  const std::size_t most = own.levels * own.columns - 1;
  if (Size(row.limit - row.proposal->size()) < most) return;
  own.Node(0, 0) = 0;
  for (std::size_t column = 1; column < own.columns; ++column) {
    own.Node(0, column) = row.proposal->AddUnaccepted(own.Node(0, column - 1), own.Cell(0, column));
  }
  for (std::size_t level = 1; level < own.levels; ++level) {
    for (std::size_t column = 0; column < own.columns; ++column) {
      own.Node(level, column) =
          row.proposal->AddUnaccepted(own.Node(level - 1, column), own.Cell(level, column));
    }
  }
  own.proposed = row.proposal->size();
}

// Any tokens would do. Those at the end of the text, over and over if it is short, are in its
// language.
void LookaheadDrafter::FillFirstLevel(Row& own, std::span<const TokenId> text) const {
  own.levels = 1;
  own.columns = window_size_ + num_levels_ - 1;
  for (std::size_t back = 0; back + 1 < own.columns; ++back) {
    own.Cell(0, own.columns - 1 - back) = text[text.size() - 1 - back % text.size()];
  }
}

void LookaheadDrafter::Observe(int row, const Observation& seen) {
  Row& own = RowOf(row);
  const bool has_window =
      own.proposed > 0 && seen.proposal != nullptr && seen.proposal->size() == own.proposed;
  if (!has_window) return;
  if (own.levels < num_levels_) return FillNextLevel(own, seen.answers);
  Harvest(own, seen.read.back(), seen.answers);
}

// The text has reached the first column, which is dropped; the answers are the new level.
void LookaheadDrafter::FillNextLevel(Row& own, std::span<const TokenId> answers) {
  const std::size_t levels = own.levels, columns = own.columns;
  const std::size_t kept = columns - 1;
  for (std::size_t level = 0; level < levels; ++level) {
    for (std::size_t column = 0; column < kept; ++column) {
      own.cells[level * kept + column] = own.Cell(level, column + 1);
    }
  }
  for (std::size_t column = 0; column < kept; ++column) {
    own.cells[levels * kept + column] = answers[Size(own.Node(levels - 1, column + 1))];
  }
  own.levels = levels + 1;
  own.columns = kept;
}

// Each column with its answer is an n-gram; then every level becomes that of the step before.
void LookaheadDrafter::Harvest(Row& own, TokenId root, std::span<const TokenId> answers) {
  for (std::size_t column = 0; column < own.columns; ++column) {
    for (std::size_t level = 1; level < num_levels_; ++level) {
      ngram_[level - 1] = own.Cell(level, column);
    }
    ngram_.back() = answers[Size(own.Node(num_levels_ - 1, column))];
    own.pool.Add(column == 0 ? root : own.Cell(0, column), ngram_);
  }
  for (std::size_t column = 0; column < own.columns; ++column) {
    for (std::size_t level = 1; level < num_levels_; ++level) {
      own.Cell(level - 1, column) = own.Cell(level, column);
    }
    own.Cell(num_levels_ - 1, column) = answers[Size(own.Node(num_levels_ - 1, column))];
  }
}

}  // namespace ptgc
