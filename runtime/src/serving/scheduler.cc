#include "serving/scheduler.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "base/error.h"

namespace ptgc {
namespace {

using Seconds = std::chrono::duration<double>;

// How often a waiting thread checks for deadlines, Ctrl-C and the like.
constexpr Seconds kLook(0.05);
// How long the next round waits for callbacks: a share of the last round's time, and the maximum.
constexpr double kLingerShare = 0.25;
constexpr double kMostLinger = 0.002;

Clock::duration ToDuration(Seconds seconds) {
  return std::chrono::duration_cast<Clock::duration>(seconds);
}

// Tells the caller what a round did for one of its texts, which the caller may end.
void CallHooks(const Hooks& hooks, std::size_t index, Turn& turn) {
  if (hooks.on_fills && !turn.filled_ids.empty()) {
    hooks.on_fills(index, turn.filled_positions, turn.filled_ids);
  }
  if (hooks.on_tokens && !turn.emitted.empty()) turn.ended = !hooks.on_tokens(index, turn.emitted);
}

DeviceCounters Since(const DeviceCounters& now, const DeviceCounters& before) {
  return {now.graph_launches - before.graph_launches, now.uncaptured_runs - before.uncaptured_runs,
          now.synchronisations - before.synchronisations, now.captures - before.captures,
          now.fallbacks - before.fallbacks};
}

// A copy of a failure for another thread that shared the round. An exception of another language
// belongs to the thread that throws it; other threads get an error with its message.
std::exception_ptr CopyForOtherThread(const std::exception_ptr& error) {
  constexpr const char* kFailed = "A round that this text shared has failed in another thread";
  try {
    std::rethrow_exception(error);
  } catch (const Error& known) {
    return std::make_exception_ptr(known);
  } catch (const std::exception& other) {
    return std::make_exception_ptr(
        Error(ErrorCode::kInternal, std::string(kFailed) + ": " + other.what()));
  } catch (...) {
    return std::make_exception_ptr(Error(ErrorCode::kInternal, std::string(kFailed) + "."));
  }
}

}  // namespace

Scheduler::Scheduler(DecodeLoop& loop, std::span<Session* const> sessions, Waiting waiting,
                     std::shared_ptr<const DeviceCounters> counters)
    : loop_(loop), counters_(std::move(counters)), rows_(loop, sessions, waiting) {
  turns_.reserve(sessions.size());
  stepping_lanes_.reserve(sessions.size());
}

// A job's exceptions are destroyed without the mutex held, because that may need locks of another
// language.
void Scheduler::Write(std::span<Generation> generations, const Hooks& hooks) {
  Job job(generations, hooks, rows_.lanes().size());
  std::unique_lock<std::mutex> lock = Lock();
  CheckCaller();
  rows_.Add(job);
  Work(job, lock);
}

void Scheduler::Continue(Pause& pause, Session& session, Generation& generation,
                         const Hooks& hooks) {
  Job job({&generation, 1}, hooks, rows_.lanes().size());
  job.kept = &session;
  rows_.Add(job);
  pause.End();
  try {
    Work(job, pause.lock_);
  } catch (...) {
    if (pause.lock_.owns_lock()) pause.lock_.unlock();
    throw;
  }
  pause.lock_.unlock();
}

Session& Scheduler::Keep(const Hooks& hooks) {
  Job job({}, hooks, rows_.lanes().size());
  job.opens = true;
  std::unique_lock<std::mutex> lock = Lock();
  CheckCaller();
  rows_.Add(job);
  try {
    Work(job, lock);
  } catch (...) {
    // The poll may throw after the row was assigned.
    if (job.opened != nullptr) GiveBack(*job.opened->session);
    throw;
  }
  return *job.opened->session;
}

// Every thread runs rounds for all until its own call is done. It sleeps only if another thread
// runs a round or is certain to: a thread that stops running rounds wakes another.
void Scheduler::Work(Job& job, std::unique_lock<std::mutex>& lock) {
  try {
    while (true) {
      if (!job.heard.empty() || (!job.polled && job.hooks->poll)) {
        Deliver(job, lock);
        continue;
      }
      if (!job.errors.empty()) std::rethrow_exception(job.errors.front());
      rows_.CheckWaiting(job);
      if (job.is_done()) break;
      if (closed_) {
        throw Error(ErrorCode::kUsage, "This generator was closed.", "Load the build again.");
      }
      if (MayStep()) {
        Step(job, lock);
      } else {
        Wait(job, lock);
      }
    }
  } catch (...) {
    if (is_home()) Leave(job, lock);
    throw;
  }
  Leave(job, lock);
}

std::unique_lock<std::mutex> Scheduler::Lock() {
  CheckHome();
  return std::unique_lock(mutex_);
}

void Scheduler::CheckHome() const {
  if (is_home()) return;
  throw Error(ErrorCode::kUsage, "This generator was loaded before this process was forked.",
              "Load the build in the process that uses it.");
}

void Scheduler::CheckCaller() const {
  const std::thread::id self = std::this_thread::get_id();
  for (const Job* job : rows_.jobs()) {
    if (job->thread != self) continue;
    throw Error(ErrorCode::kUsage, "A generator was called from within its own callback.",
                "Return from the callback first.");
  }
  if (!closed_) return;
  throw Error(ErrorCode::kUsage, "This generator is closed.", "Load the build again.");
}

// True only if a step makes progress, because a thread that may step does not sleep.
bool Scheduler::MayStep() const {
  if (stepping_ || pauses_ > 0) return false;
  bool ready = rows_.num_free() > 0 && rows_.NextForRow() != nullptr;
  bool listening = false;
  for (const Job* job : rows_.jobs()) {
    const bool gets_row = job->kept != nullptr && job->wants_row();
    ready = ready || (job->takes_part() && (job->num_rows > 0 || gets_row));
    listening = listening || (job->is_listening() && job->num_rows > 0);
  }
  return ready && (!listening || Clock::now() >= linger_until_);
}

void Scheduler::Step(Job& job, std::unique_lock<std::mutex>& lock) {
  rows_.Tidy();
  rows_.AssignRows();
  if (job.is_done()) return;  // A session was opened; other threads run the round.
  CollectTurns();
  if (turns_.empty()) return;
  stepping_ = true;
  lock.unlock();
  RoundReport report;
  std::exception_ptr error;
  try {
    report = Round();
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  stepping_ = false;
  job.polled = false;
  TakeErrors();
  try {
    if (error == nullptr) RecordRound(report);
  } catch (...) {
    error = std::current_exception();
  }
  if (error != nullptr) FailRound(job, std::move(error));
  round_ended_.notify_all();
}

// Called without the mutex.
RoundReport Scheduler::Round() {
  const DeviceCounters before = counters_ == nullptr ? DeviceCounters() : *counters_;
  RoundReport report = loop_.Round(turns_);
  if (counters_ != nullptr) report.device = Since(*counters_, before);
  return report;
}

void Scheduler::CollectTurns() {
  turns_.clear();
  stepping_lanes_.clear();
  for (Lane& lane : rows_.lanes()) {
    if (lane.generation == nullptr || !lane.job->takes_part()) continue;
    lane.generation->CheckTime();
    if (lane.generation->finished()) {
      lane.job->wake.notify_one();
      rows_.Release(lane);
      continue;
    }
    turns_.push_back(lane.generation->NextTurn());
    stepping_lanes_.push_back(&lane);
  }
  MarkTurnsBesideTexts();
}

// Texts whose callbacks are running count too, because they also wait for the round.
void Scheduler::MarkTurnsBesideTexts() {
  const Job* writes = nullptr;
  bool several_write = false;
  for (const Lane& lane : rows_.lanes()) {
    if (lane.generation == nullptr || !lane.generation->is_writing()) continue;
    several_write = several_write || (writes != nullptr && writes != lane.job);
    writes = lane.job;
  }
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    const bool is_only_one = writes == nullptr || writes == stepping_lanes_[i]->job;
    turns_[i].beside_text = several_write || !is_only_one;
  }
}

void Scheduler::RecordRound(const RoundReport& report) {
  const Seconds linger(std::min(report.round_seconds * kLingerShare, kMostLinger));
  linger_until_ = Clock::now() + ToDuration(linger);
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    Lane& lane = *stepping_lanes_[i];
    Job& job = *lane.job;
    lane.generation->Record(turns_[i], report);
    job.polled = false;
    const bool has_fills = job.hooks->on_fills && !turns_[i].filled_ids.empty();
    if (has_fills || (job.hooks->on_tokens && !turns_[i].emitted.empty())) {
      job.heard.push_back(&lane);
      job.turns.push_back(turns_[i]);
      job.wake.notify_one();
    } else if (lane.generation->finished()) {
      rows_.Release(lane);
      job.wake.notify_one();
    }
  }
}

// Ends calls with a text that failed on its own. The exceptions are moved, because only their own
// thread may have them.
void Scheduler::TakeErrors() {
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    if (turns_[i].error == nullptr) continue;
    Job& job = *stepping_lanes_[i]->job;
    job.errors.push_back(std::exchange(turns_[i].error, nullptr));
    job.wake.notify_one();
  }
}

// Ends all calls with a text in the round, each with its own error.
void Scheduler::FailRound(Job& stepper, std::exception_ptr error) {
  for (Lane* lane : stepping_lanes_) {
    Job* job = lane->job;
    if (job == nullptr || !job->errors.empty()) continue;  // Finished or failed before.
    if (job != &stepper) job->errors.push_back(CopyForOtherThread(error));
    job->wake.notify_one();
  }
  if (IsInRound(stepper)) stepper.errors.push_back(std::move(error));
}

// Runs the caller's hooks without the mutex. If tokens are delivered, its rows are in no round
// meanwhile; if it only polls, nobody waits for it.
void Scheduler::Deliver(Job& job, std::unique_lock<std::mutex>& lock) {
  job.polled = true;
  job.delivering = !job.heard.empty();
  if (job.delivering) WakeOne(&job);
  lock.unlock();
  std::exception_ptr error;
  std::size_t num_delivered = 0;
  try {
    // While only the poll runs, rounds may add new tokens; those are delivered next time.
    for (std::size_t i = 0; job.delivering && i < job.heard.size(); ++i, ++num_delivered) {
      CallHooks(*job.hooks, job.heard[i]->index, job.turns[i]);
    }
    if (job.hooks->poll) job.hooks->poll();
  } catch (...) {
    error = std::current_exception();
  }
  CheckHome();  // A callback may have forked.
  lock.lock();
  if (job.delivering) {
    for (std::size_t i = 0; i < num_delivered; ++i) {
      Lane& lane = *job.heard[i];
      if (job.turns[i].ended) lane.generation->Finish(FinishReason::kStop);
      if (lane.generation->finished()) rows_.Release(lane);
    }
    job.heard.clear();
    job.turns.clear();
    job.delivering = false;
  }
  if (error != nullptr) std::rethrow_exception(error);
}

void Scheduler::Wait(Job& job, std::unique_lock<std::mutex>& lock) {
  const Clock::time_point now = Clock::now();
  Clock::time_point until = rows_.WaitsUntil(job, now + ToDuration(kLook));
  if (!stepping_ && pauses_ == 0 && linger_until_ > now) until = std::min(until, linger_until_);
  job.wake.wait_until(lock, until);
  if (job.hooks->poll && Clock::now() >= until) job.polled = false;
}

// Wakes a thread to run the next round, because the calling thread will not. Threads whose hooks
// are running need no waking.
void Scheduler::WakeOne(const Job* except) {
  for (Job* job : rows_.jobs()) {
    if (job == except || job->delivering) continue;
    job->wake.notify_one();
    return;
  }
}

void Scheduler::Leave(Job& job, std::unique_lock<std::mutex>& lock) {
  job.delivering = true;  // Keeps its rows out of new rounds; the current one is waited for.
  round_ended_.wait(lock, [&] { return !IsStepping(job); });
  rows_.Remove(job);
  if (rows_.jobs().empty()) {
    rows_.Tidy();
    round_ended_.notify_all();
  }
  WakeOne();
}

bool Scheduler::IsStepping(const Job& job) const { return stepping_ && IsInRound(job); }

bool Scheduler::IsInRound(const Job& job) const {
  return std::any_of(stepping_lanes_.begin(), stepping_lanes_.end(),
                     [&](const Lane* lane) { return lane->job == &job; });
}

void Scheduler::GiveBack(Session& session) {
  rows_.GiveBack(session);
  WakeOne();
}

int Scheduler::free_rows() {
  const auto lock = Lock();
  return static_cast<int>(rows_.num_free());
}

Scheduler::Pause::Pause(Scheduler& scheduler) : scheduler_(scheduler), lock_(scheduler.Lock()) {
  scheduler_.CheckCaller();
  ++scheduler_.pauses_;
  scheduler_.round_ended_.wait(lock_, [&] { return !scheduler_.stepping_; });
  if (!scheduler_.closed_) return;
  End();
  scheduler_.CheckCaller();
}

Scheduler::Pause::~Pause() {
  if (!holds_) return;
  End();
  scheduler_.WakeOne();
}

void Scheduler::Pause::End() {
  holds_ = false;
  --scheduler_.pauses_;
  if (scheduler_.closed_) scheduler_.round_ended_.notify_all();
}

void Scheduler::CheckIdle(const Session& session) const {
  if (!rows_.IsWriting(session)) return;
  throw Error(ErrorCode::kUsage, "This session is writing a text.",
              "Wait until it has ended, or cancel it.");
}

bool Scheduler::AllFree() {
  rows_.Tidy();
  return rows_.num_free() == rows_.lanes().size();
}

void Scheduler::Close() {
  std::unique_lock<std::mutex> lock = Lock();
  CheckCaller();
  RefuseAll();
  round_ended_.wait(lock, [&] { return rows_.jobs().empty() && pauses_ == 0; });
}

void Scheduler::Stop() {
  const auto lock = Lock();
  RefuseAll();
}

void Scheduler::RefuseAll() {
  closed_ = true;
  for (Job* job : rows_.jobs()) job->wake.notify_one();
}

}  // namespace ptgc
