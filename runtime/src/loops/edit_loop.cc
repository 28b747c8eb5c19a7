#include "loops/edit_loop.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

EditLoop::EditLoop(std::unique_ptr<Encoder> encoder, Engines engines, const EditPlan& plan,
                   const ShapePlan& shapes)
    : encoder_(std::move(encoder)),
      engines_(std::move(engines)),
      plan_(plan),
      batch_(shapes.batch),
      lengths_(shapes.roles.at(plan.operations.front()).canvas_lengths),
      drafts_(Size(shapes.batch)),
      front_(shapes.batch, lengths_.back()),
      back_(shapes.batch, lengths_.back()),
      made_(plan.operations.size() % 2 == 0 ? front_ : back_),
      calls_(lengths_.size()) {
  sources_.reserve(drafts_.size());
  for (Draft& draft : drafts_) draft.ids.reserve(Size(lengths_.back()));
}

void EditLoop::Start(const Session& session, const Request&) {
  Draft& draft = drafts_[Size(session.row())];
  draft.ids.assign({plan_.bos_token_id});
  if (plan_.start == EditStart::kSource) {
    const std::span<const TokenId> source = session.source();
    draft.ids.insert(draft.ids.end(), source.begin(), source.end());
  }
  draft.ids.push_back(plan_.eos_token_id);
  draft.rounds = 0;
}

// All rows get the longest canvas, because the model decides how much a text grows.
RoundReport EditLoop::Round(std::span<Turn> turns) {
  const Clock::time_point start = Clock::now();
  StartEncoder(turns);
  const std::size_t index = lengths_.size() - 1;
  const int length = lengths_[index];
  const std::array<TokenId, 2> empty = {plan_.bos_token_id, plan_.eos_token_id};
  for (int row = 0; row < batch_; ++row) {
    front_.Write(row, length, empty, plan_.pad_token_id);
  }
  for (const Turn& turn : turns) {
    const Draft& draft = drafts_[Size(turn.session->row())];
    front_.Write(turn.session->row(), length, draft.ids, plan_.pad_token_id);
  }
  const double engine_seconds = Edit(BoundCalls(index)) + WaitForEncoder();
  for (Turn& turn : turns) {
    Draft& draft = drafts_[Size(turn.session->row())];
    const std::span<const TokenId> made = made_.Read(turn.session->row(), length, 2);
    const bool same = std::equal(made.begin(), made.end(), draft.ids.begin(), draft.ids.end());
    draft.ids.assign(made.begin(), made.end());
    ++draft.rounds;
    turn.emitted = {};
    turn.ended = false;
    if (same || draft.rounds >= plan_.max_rounds) Finish(draft, turn);
  }
  return RoundReport::Of(length, engine_seconds, SecondsSince(start));
}

void EditLoop::StartEncoder(std::span<const Turn> turns) {
  if (encoder_ == nullptr) return;
  sources_.clear();
  for (const Turn& turn : turns) {
    if (drafts_[Size(turn.session->row())].rounds > 0) continue;
    sources_.push_back({turn.session->row(), turn.session->source()});
  }
  encoder_->Encode(sources_);
}

double EditLoop::WaitForEncoder() {
  if (encoder_ == nullptr) return 0;
  encoder_->Wait();
  return encoder_->engine_seconds();
}

double EditLoop::Edit(Calls& calls) {
  const Clock::time_point start = Clock::now();
  for (const std::unique_ptr<Call>& call : calls) call->Start();
  for (const std::unique_ptr<Call>& call : calls) call->Wait();
  return SecondsSince(start);
}

void EditLoop::Finish(const Draft& draft, Turn& turn) const {
  Session& session = *turn.session;
  const int begin = session.length();
  const std::size_t whole = draft.ids.size() - 2;
  const std::size_t count = std::min(whole, Size(turn.max_new_tokens));
  for (std::size_t i = 0; i < count; ++i) session.Extend(draft.ids[i + 1]);
  turn.emitted = session.tokens().subspan(Size(begin));
  turn.ended = count == whole;
}

EditLoop::Calls& EditLoop::BoundCalls(std::size_t index) {
  Calls& calls = calls_[index];
  if (!calls.empty()) return calls;
  const int length = lengths_[index];
  for (std::size_t i = 0; i < plan_.operations.size(); ++i) {
    const CanvasBuffers& from = i % 2 == 0 ? front_ : back_;
    const CanvasBuffers& to = i % 2 == 0 ? back_ : front_;
    std::vector<Tensor> inputs = encoder_ != nullptr ? encoder_->Ports() : std::vector<Tensor>();
    inputs.push_back(from.Ids("input_ids", length));
    inputs.push_back(from.Lengths("lengths"));
    const std::vector<Tensor> outputs = {to.Ids("output_ids", length),
                                         to.Lengths("output_lengths")};
    calls.push_back(engines_.at(plan_.operations[i])->Bind(inputs, outputs));
  }
  return calls;
}

std::vector<double> EditLoop::Measure(const EngineRuns& runs) {
  const auto at = std::find(lengths_.begin(), lengths_.end(), runs.num_tokens);
  const std::vector<std::string>& roles = plan_.operations;
  const auto role = std::find(roles.begin(), roles.end(), runs.role);
  if (role == roles.end() || at == lengths_.end()) {
    throw Error(ErrorCode::kUsage,
                "This build has no canvas of " + std::to_string(runs.num_tokens) +
                    " tokens for the role '" + runs.role + "'.",
                "Measure the canvas lengths of its shape plan.");
  }
  Calls& calls = BoundCalls(static_cast<std::size_t>(at - lengths_.begin()));
  const std::array<TokenId, 2> empty = {plan_.bos_token_id, plan_.eos_token_id};
  for (int row = 0; row < batch_; ++row) {
    front_.Write(row, runs.num_tokens, empty, plan_.pad_token_id);
    back_.Write(row, runs.num_tokens, empty, plan_.pad_token_id);
  }
  return TimeRuns(*calls[static_cast<std::size_t>(role - roles.begin())], runs.repeats);
}

}  // namespace ptgc
