#include "drafters/merged_drafter.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "bundle/json_document.h"
#include "bundle/plan_reader.h"
#include "drafters/registry.h"

namespace ptgc {
namespace {

// Whether a kind cannot be merged: its rounds need more of the target, or of the plan, than a tree.
bool MustBeAlone(const std::string& kind, const DrafterPlan& plan) {
  return kind == "none" || kind == "merged" || kind == "lookahead" || kind == "jacobi" ||
         FindDrafterKind(plan.kind)->drafts_blocks || plan.parameters->num_top_ids > 0;
}

}  // namespace

void ReadMerged(const Fields& data, DrafterPlan& plan) {
  int most = 0;
  for (const Fields& part : data.List("drafters", /*may_be_absent=*/false, limits::kDrafters)) {
    DrafterPlan& read = plan.parts.emplace_back(ReadDrafter(part));
    most = std::max(most, read.num_draft_tokens);
    const nlohmann::json* kind = part.Find("kind");
    const std::string name =
        kind != nullptr && kind->is_string() ? kind->get<std::string>() : std::string();
    if (MustBeAlone(name, read)) {
      part.Add("kind", " is '" + name + "', which cannot be merged.");
    }
  }
  if (plan.parts.size() < 2) data.Add("drafters", " must be two or more.");
  for (std::size_t i = 0; i + 1 < plan.parts.size(); ++i) {
    const DrafterKind* kind = FindDrafterKind(plan.parts[i].kind);
    if (kind->roles.empty()) continue;
    data.Add("drafters", " has '" + plan.parts[i].kind + "', which runs a model, before the last.");
  }
  if (plan.num_draft_tokens != most) {
    data.Add("num_draft_tokens",
             " must be the largest of the merged drafters, " + std::to_string(most) + ".");
  }
}

// Each part has its own number of drafts, in the first nodes of the plan's tree.
std::unique_ptr<Drafter> MakeMerged(DrafterSeat& seat) {
  std::vector<std::unique_ptr<Drafter>> parts;
  std::vector<int> limits;
  for (const DrafterPlan& part : seat.plan.drafter.parts) {
    DecodePlan plan = seat.plan;
    plan.drafter = part;
    plan.tree.Truncate(part.num_draft_tokens + 1);
    DrafterSeat own{seat.bundle,       plan,
                    seat.options,      seat.engines,
                    seat.caches,       std::min(seat.max_drafts, part.num_draft_tokens),
                    seat.target_costs, seat.overlap};
    parts.push_back(FindDrafterKind(part.kind)->make(own));
    limits.push_back(own.max_drafts);
  }
  return std::make_unique<MergedDrafter>(std::move(parts), std::move(limits),
                                         seat.bundle.shapes.batch);
}

MergedDrafter::MergedDrafter(std::vector<std::unique_ptr<Drafter>> parts, std::vector<int> limits,
                             int batch)
    : parts_(std::move(parts)),
      limits_(std::move(limits)),
      drafted_by_(static_cast<std::size_t>(batch)) {
  asked_.reserve(drafted_by_.size());
}

void MergedDrafter::Begin(int row) {
  for (const auto& part : parts_) part->Begin(row);
}

void MergedDrafter::Truncate(int row, int length) {
  for (const auto& part : parts_) part->Truncate(row, length);
}

void MergedDrafter::CopyRow(int from, int to) {
  for (const auto& part : parts_) part->CopyRow(from, to);
}

void MergedDrafter::Clear() {
  for (const auto& part : parts_) part->Clear();
}

int MergedDrafter::Propose(const DraftRow& row) {
  DraftRow own = row;
  own.limit = std::min(row.limit, limits_[static_cast<std::size_t>(row.part)]);
  return Part(row).Propose(own);
}

void MergedDrafter::Observe(int row, const Observation& seen) {
  for (const auto& part : parts_) part->Observe(row, seen);
}

std::span<const DraftRow> MergedDrafter::RowsOf(std::size_t part, std::span<const DraftRow> rows) {
  asked_.clear();
  for (const DraftRow& row : rows) {
    if (row.part == static_cast<int>(part)) asked_.push_back(row);
  }
  return asked_;
}

// The target takes pending drafts for all rows or for none, so they are collected at once if
// another part drafted for any row.
void MergedDrafter::Draft(std::span<const DraftRow> rows) {
  bool looked_up = false;
  for (std::size_t part = 0; part < parts_.size(); ++part) {
    parts_[part]->Draft(RowsOf(part, rows));
    if (part + 1 == parts_.size()) break;
    for (const DraftRow& row : asked_) looked_up = looked_up || row.proposal->size() > 0;
  }
  for (const DraftRow& row : rows) drafted_by_[static_cast<std::size_t>(row.row)] = row.part;
  if (looked_up && is_pending()) Collect(rows);
}

void MergedDrafter::Collect(std::span<const DraftRow> rows) {
  parts_.back()->Collect(RowsOf(parts_.size() - 1, rows));
}

void MergedDrafter::DraftAhead(std::span<const DraftRow> rows) {
  parts_.back()->DraftAhead(RowsOf(parts_.size() - 1, rows));
}

// A row's drafts are all of one part; those that were looked up are certain.
DraftProbabilities MergedDrafter::Probabilities(int row, int count) const {
  const int part = drafted_by_[static_cast<std::size_t>(row)];
  return parts_[static_cast<std::size_t>(part)]->Probabilities(row, count);
}

}  // namespace ptgc
