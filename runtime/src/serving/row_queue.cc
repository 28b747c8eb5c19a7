#include "serving/row_queue.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "base/error.h"

namespace ptgc {

Job::Job(std::span<Generation> wanted, const Hooks& heard_with, std::size_t batch)
    : generations(wanted), hooks(&heard_with) {
  heard.reserve(batch);
  turns.reserve(batch);
  errors.reserve(batch + 1);
  may_end_waiting = std::any_of(wanted.begin(), wanted.end(),
                                [](const Generation& text) { return text.may_end_waiting(); });
}

bool Job::is_done() const { return !wants_row() && num_rows == 0; }

RowQueue::RowQueue(DecodeLoop& loop, std::span<Session* const> sessions, Waiting waiting)
    : loop_(loop), waiting_(waiting) {
  for (Session* session : sessions) lanes_.push_back({session});
}

std::size_t RowQueue::num_free() const {
  return static_cast<std::size_t>(
      std::count_if(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.is_free(); }));
}

void RowQueue::Add(Job& job) {
  if (job.kept == nullptr) {
    const auto num_waiting = [](const Job& one) {
      if (one.kept != nullptr) return std::size_t{0};
      return one.opens ? std::size_t{one.wants_row()} : one.generations.size() - one.next;
    };
    std::size_t waiting = 0;
    for (const Job* other : jobs_) waiting += num_waiting(*other);
    const std::size_t most = static_cast<std::size_t>(std::max(waiting_.max_texts, 0));
    if (waiting_.max_texts >= 0 && waiting + num_waiting(job) > most + num_free()) {
      throw Error(ErrorCode::kBusy,
                  std::to_string(waiting) + " texts are waiting for a row of this build already; " +
                      std::to_string(most) + " may.",
                  "Ask again later, or build with a larger --batch-size.");
    }
    CheckWaiting(job);
  }
  jobs_.push_back(&job);
}

void RowQueue::Remove(Job& job) {
  for (Lane& lane : lanes_) {
    if (lane.job == &job) Release(lane);
  }
  jobs_.remove(&job);
  if (job.kept == nullptr) return;
  Lane& lane = LaneOf(*job.kept);
  if (lane.given_back) lane.kept = lane.given_back = false;
}

// A job that has had a row never fails here: sessions leave at least one row for its other texts.
void RowQueue::CheckWaiting(Job& job) const {
  if (job.may_end_waiting) {
    for (Generation& generation : job.generations.subspan(job.next)) generation.CheckTime();
    SkipFinished(job);
  }
  if (!job.wants_row() || job.kept != nullptr || job.started || num_free() > 0) return;
  const bool rows_will_free =
      std::any_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return !lane.kept; });
  const bool waits =
      waiting_.seconds < 0 ? rows_will_free : SecondsSince(job.called) < waiting_.seconds;
  if (waits) return;
  throw Error(ErrorCode::kBusy,
              "All " + std::to_string(lanes_.size()) + " rows of this build are taken.",
              "Close a session, or build with a larger --batch-size.");
}

Clock::time_point RowQueue::WaitsUntil(const Job& job, Clock::time_point latest) const {
  if (waiting_.seconds < 0 || job.kept != nullptr || job.started || num_free() > 0) return latest;
  const std::chrono::duration<double> left(waiting_.seconds - SecondsSince(job.called));
  // Compared as floating-point numbers: seconds may be more than a time point holds.
  if (left >= latest - Clock::now()) return latest;
  return Clock::now() + std::chrono::ceil<Clock::duration>(left);
}

void RowQueue::Tidy() {
  bool empty = true;
  for (Lane& lane : lanes_) {
    if (lane.is_free() && !lane.session->empty()) {
      lane.session->Reset();
      loop_.Begin(*lane.session);
    }
    empty = empty && lane.session->empty();
  }
  if (empty) loop_.Clear();
}

void RowQueue::AssignRows() {
  for (Job* job : jobs_) {
    if (job->kept == nullptr || !job->takes_part()) continue;
    SkipFinished(*job);
    if (job->wants_row()) Start(LaneOf(*job->kept), *job);
  }
  while (Lane* lane = FreeLane()) {
    Job* job = NextForRow();
    if (job == nullptr) return;
    Start(*lane, *job);
  }
}

Job* RowQueue::NextForRow() const {
  Job* next = nullptr;
  for (Job* job : jobs_) {
    if (job->kept != nullptr || !job->takes_part()) continue;
    SkipFinished(*job);
    if (!job->wants_row() || (job->opens && !LeavesRow(*job))) continue;
    if (next == nullptr || job->num_rows < next->num_rows) next = job;
  }
  return next;
}

// Whether the session may keep a row: calls that have started must still get rows for their
// remaining texts.
bool RowQueue::LeavesRow(const Job& opening) const {
  const auto not_kept =
      std::count_if(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return !lane.kept; });
  const auto needs_row = [&](const Job* job) {
    return job != &opening && job->kept == nullptr && job->started && job->wants_row();
  };
  return not_kept > 1 || std::none_of(jobs_.begin(), jobs_.end(), needs_row);
}

// Skips texts that ended while they waited.
void RowQueue::SkipFinished(Job& job) {
  while (!job.opens && job.wants_row() && job.generations[job.next].finished()) ++job.next;
}

void RowQueue::Start(Lane& lane, Job& job) {
  job.started = true;
  if (!lane.kept) lane.session->ClearCancel();
  if (job.opens) {
    lane.kept = true;
    job.opened = &lane;
    job.wake.notify_one();
    return;
  }
  lane.index = job.next++;
  lane.generation = &job.generations[lane.index];
  lane.job = &job;
  ++job.num_rows;
  try {
    lane.generation->Start(*lane.session, loop_);
  } catch (...) {
    job.errors.push_back(std::current_exception());
    job.wake.notify_one();
  }
}

void RowQueue::Release(Lane& lane) {
  --lane.job->num_rows;
  jobs_.splice(jobs_.end(), jobs_, std::find(jobs_.begin(), jobs_.end(), lane.job));
  lane.generation = nullptr;
  lane.job = nullptr;
}

void RowQueue::GiveBack(Session& session) {
  Lane& lane = LaneOf(session);
  if (IsWriting(session)) {
    lane.given_back = true;
    session.Cancel();
  } else {
    lane.kept = false;
  }
}

bool RowQueue::IsWriting(const Session& session) const {
  return std::any_of(jobs_.begin(), jobs_.end(),
                     [&](const Job* job) { return job->kept == &session; });
}

Lane& RowQueue::LaneOf(const Session& session) {
  return *std::find_if(lanes_.begin(), lanes_.end(),
                       [&](const Lane& lane) { return lane.session == &session; });
}

Lane* RowQueue::FreeLane() {
  const auto free =
      std::find_if(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.is_free(); });
  return free == lanes_.end() ? nullptr : &*free;
}

}  // namespace ptgc
