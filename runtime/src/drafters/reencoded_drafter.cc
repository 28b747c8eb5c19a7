#include "drafters/reencoded_drafter.h"

#include <algorithm>
#include <utility>

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

// The result of the caller's function. If it throws, only this row fails, and drafts nothing.
std::vector<TokenId> Reencoded(const DraftRow& row, const Reencode& reencode,
                               std::span<const TokenId> ids, std::size_t context) {
  try {
    return reencode(ids, context);
  } catch (...) {
    *row.error = std::current_exception();
    return {};
  }
}

}  // namespace

ReencodedDrafter::ReencodedDrafter(std::unique_ptr<ModelDrafter> drafter, int batch, int max_drafts,
                                   std::int64_t target_vocab_size, Reencoding reencoding)
    : drafter_(std::move(drafter)),
      max_drafts_(max_drafts),
      target_vocab_size_(target_vocab_size),
      reencoding_(std::move(reencoding)) {
  for (int row = 0; row < batch; ++row) {
    rows_.push_back({{}, 0, Proposal(max_drafts), {}});
  }
  asked_.reserve(rows_.size());
}

void ReencodedDrafter::Begin(int row) {
  rows_[Size(row)].text.clear();
  drafter_->Begin(row);
}

// The next round finds out what the texts still have in common. If the text is empty, nothing is
// kept and the row starts anew.
void ReencodedDrafter::Truncate(int row, int length) {
  if (length == 0) Begin(row);
}

void ReencodedDrafter::CopyRow(int from, int to) {
  rows_[Size(to)].text = rows_[Size(from)].text;
  rows_[Size(to)].read = rows_[Size(from)].read;
  drafter_->CopyRow(from, to);
}

int ReencodedDrafter::Propose(const DraftRow& row) { return std::min(row.limit, max_drafts_); }

// Assumes that the new text has the same number of tokens in both vocabularies.
double ReencodedDrafter::CatchUp(const DraftRow& row) const {
  const Row& own = rows_[Size(row.row)];
  if (own.text.empty() || row.text.size() < own.read) return 0;
  return drafter_->Reading(static_cast<int>(row.text.size() - own.read));
}

void ReencodedDrafter::Draft(std::span<const DraftRow> rows) {
  asked_.clear();
  for (const DraftRow& row : rows) Read(row);
  drafter_->Draft(asked_);
  drafter_->Collect(asked_);
  for (const DraftRow& row : rows) {
    Row& own = rows_[Size(row.row)];
    const std::span<const TokenId> drafts = own.drafts.tokens();
    if (drafts.empty()) continue;
    const std::size_t context = own.text.size();
    own.text.insert(own.text.end(), drafts.begin(), drafts.end());
    const std::vector<TokenId> ids = Reencoded(row, reencoding_.to_target, own.text, context);
    own.text.resize(context);
    for (TokenId id : ids) {
      const bool knows = id >= 0 && id < target_vocab_size_;
      if (!knows || row.proposal->size() == row.limit) break;
      row.proposal->Append(id);
    }
  }
}

// Converts the row's text to the drafter's vocabulary, without the part that the drafter has read
// already.
void ReencodedDrafter::Read(const DraftRow& row) {
  Row& own = rows_[Size(row.row)];
  own.drafts.Clear();
  int limit = row.limit;
  if (limit > 0) {
    std::vector<TokenId> text = Reencoded(row, reencoding_.to_drafter, row.text, 0);
    const auto differs =
        std::mismatch(text.begin(), text.end(), own.text.begin(), own.text.end()).first;
    drafter_->Truncate(row.row, static_cast<int>(differs - text.begin()));
    own.text = std::move(text);
    own.read = row.text.size();
    // The text may be longer in this vocabulary, even longer than the drafter has room for.
    limit = own.text.empty() ? 0 : drafter_->Propose({row.row, own.text, 0, limit});
  }
  asked_.push_back({row.row, own.text, 0, limit, &own.drafts, &own.likeliest});
}

// Accepted drafts are read again with the next text, because they may have different tokens in it.
void ReencodedDrafter::Observe(int row, const Observation&) { drafter_->Observe(row, {}); }

}  // namespace ptgc
