#include "schedule.h"

namespace ptgc {

Schedule::Schedule(std::span<Generation> generations, std::span<Session* const> rows, bool fresh)
    : generations_(generations), fresh_(fresh) {
  for (Session* session : rows) lanes_.push_back({session});
  stepping_.reserve(rows.size());
  turns_.reserve(rows.size());
}

std::span<Turn> Schedule::NextTurns() {
  turns_.clear();
  stepping_.clear();
  for (Lane& lane : lanes_) {
    if (!lane.idle()) lane.generation->CheckTime();
    while (lane.idle() && next_ < generations_.size()) StartNext(lane);
    if (lane.idle()) continue;
    turns_.push_back(lane.generation->NextTurn());
    stepping_.push_back(&lane);
  }
  return turns_;
}

void Schedule::StartNext(Lane& lane) {
  lane.index = next_++;
  lane.generation = &generations_[lane.index];
  if (fresh_) {
    lane.session->Reset();
    lane.session->ClearCancel();
  }
  lane.generation->Start(*lane.session);
  lane.generation->CheckTime();
}

void Schedule::Record(const RoundReport& report, const OnTokens& on_tokens) {
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    const Lane& lane = *stepping_[i];
    lane.generation->Record(turns_[i], report);
    if (turns_[i].emitted.empty() || !on_tokens) continue;
    if (!on_tokens(lane.index, turns_[i].emitted)) lane.generation->Finish(FinishReason::kStop);
  }
}

}  // namespace ptgc
