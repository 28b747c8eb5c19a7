#include "scheduler.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "error.h"

namespace ptgc {
namespace {

using Seconds = std::chrono::duration<double>;

// How often a waiting thread looks around, for deadlines, Ctrl-C and the like.
constexpr Seconds kLook(0.05);
// The share of a round that the next one waits for callbacks, and the most.
constexpr double kLingerShare = 0.25;
constexpr double kMostLinger = 0.002;

Clock::duration ToDuration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(Seconds(seconds));
}

}  // namespace

// One call of one thread. Its memory is the caller's stack.
struct Scheduler::Job {
  Job(std::span<Generation> wanted, Session* row, const Hooks& heard_with)
      : generations(wanted), kept(row), hooks(&heard_with) {}

  std::span<Generation> generations;  // What it wants written.
  Session* kept;                      // The only row for it; null for any.
  const Hooks* hooks;                 // What it hears.
  std::thread::id thread = std::this_thread::get_id();
  Clock::time_point called = Clock::now();
  std::size_t next = 0;          // The first that has had no row yet.
  bool delivering = false;       // Its hooks are running.
  bool polled = true;            // Its poll has run since the last round.
  std::vector<Lane*> heard;      // Rows whose new tokens it has not heard of yet.
  std::vector<Turn> turns;       // The tokens.
  std::exception_ptr error;      // What an engine threw.
  std::condition_variable wake;  // Something happened for it.

  bool has_started() const { return next > 0; }
  // Whether its rows must stay as they are, because its caller is yet to hear of them.
  bool is_listening() const { return delivering || !heard.empty(); }
};

Scheduler::Scheduler(DecodeLoop& loop, std::span<Session* const> sessions, Waiting waiting)
    : loop_(loop), waiting_(waiting) {
  for (Session* session : sessions) lanes_.push_back({session});
  turns_.reserve(lanes_.size());
  stepping_lanes_.reserve(lanes_.size());
}

void Scheduler::Run(std::span<Generation> generations, Session* kept, const Hooks& hooks) {
  std::unique_lock<std::mutex> lock(mutex_);
  CheckCaller();
  Job job(generations, kept, hooks);
  job.heard.reserve(lanes_.size());
  job.turns.reserve(lanes_.size());
  Refuse(job);
  jobs_.push_back(&job);
  try {
    while (true) {
      if (job.error != nullptr) std::rethrow_exception(job.error);
      if (!job.heard.empty() || (!job.polled && hooks.poll)) {
        Deliver(job, lock);
        continue;
      }
      const bool done =
          std::all_of(generations.begin(), generations.end(),
                      [](const Generation& generation) { return generation.finished(); });
      if (done) break;
      CheckWaiting(job);
      if (MayStep()) {
        Step(lock);
      } else {
        Wait(job, lock);
      }
    }
  } catch (...) {
    Leave(job, lock);
    throw;
  }
  Leave(job, lock);
}

void Scheduler::CheckCaller() const {
  const std::thread::id self = std::this_thread::get_id();
  for (const Job* job : jobs_) {
    if (job->thread != self) continue;
    throw Error(ErrorCode::kUsage, "A generator was called from within its own callback.",
                "Return from the callback first.");
  }
  if (!closed_) return;
  throw Error(ErrorCode::kUsage, "This generator is closed.", "Load the build again.");
}

// Throws where the call should not even begin to wait.
void Scheduler::Refuse(Job& job) const {
  if (job.kept != nullptr) {
    CheckIdle(*job.kept);
    return;
  }
  std::size_t waiting = 0;
  for (const Job* other : jobs_) {
    if (other->kept == nullptr) waiting += other->generations.size() - other->next;
  }
  const bool queue_full =
      waiting_.max_texts >= 0 && waiting + job.generations.size() >
                                     static_cast<std::size_t>(waiting_.max_texts) + lanes_.size();
  if (queue_full) {
    throw Error(ErrorCode::kBusy,
                std::to_string(waiting) + " texts are waiting for a row of this build already.",
                "Ask again later, or build with a larger --batch-size.");
  }
  CheckWaiting(job);
}

bool Scheduler::RowsWillFree() const {
  return std::any_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return !lane.kept; });
}

// Ends what waits for a row longer than it may.
void Scheduler::CheckWaiting(Job& job) const {
  if (closed_) {
    throw Error(ErrorCode::kUsage, "This generator was closed.", "Load the build again.");
  }
  for (Generation& generation : job.generations.subspan(job.next)) generation.CheckTime();
  if (job.kept != nullptr || job.has_started()) return;
  const bool free = std::any_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) {
    return !lane.kept && lane.generation == nullptr;
  });
  if (free) return;
  const bool waits =
      waiting_.seconds < 0 ? RowsWillFree() : SecondsSince(job.called) < waiting_.seconds;
  if (waits) return;
  throw Error(ErrorCode::kBusy,
              "All " + std::to_string(lanes_.size()) + " rows of this build are taken.",
              "Close a session, or build with a larger --batch-size.");
}

bool Scheduler::MayStep() const {
  if (stepping_ || pauses_ > 0) return false;
  bool ready = false;
  bool delivering = false;
  bool free = false;
  for (const Lane& lane : lanes_) {
    free = free || (!lane.kept && lane.generation == nullptr);
    if (lane.generation == nullptr || lane.generation->finished()) continue;
    (lane.job->is_listening() ? delivering : ready) = true;
  }
  for (const Job* job : jobs_) {
    const bool waits = job->next < job->generations.size() && !job->is_listening();
    ready = ready || (waits && (job->kept != nullptr || free));
  }
  return ready && (!delivering || Clock::now() >= linger_until_);
}

void Scheduler::Step(std::unique_lock<std::mutex>& lock) {
  Tidy();
  AssignRows();
  CollectTurns();
  if (turns_.empty()) return;
  stepping_ = true;
  lock.unlock();
  RoundReport report;
  std::exception_ptr error;
  try {
    report = loop_.Round(turns_);
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  stepping_ = false;
  if (error != nullptr) {
    FailRound(error);
  } else {
    RecordRound(report);
  }
  if (pauses_ > 0) round_ended_.notify_all();
}

// Texts that wait take rows in the order of the calls.
void Scheduler::AssignRows() {
  for (Job* job : jobs_) {
    if (job->is_listening() || job->error != nullptr) continue;
    for (Lane& lane : lanes_) {
      while (job->next < job->generations.size() && job->generations[job->next].finished()) {
        ++job->next;  // Its deadline passed while it waited.
      }
      if (job->next == job->generations.size()) break;
      const bool fits = job->kept != nullptr ? lane.session == job->kept : !lane.kept;
      if (fits && lane.generation == nullptr) Start(lane, *job);
    }
  }
}

void Scheduler::Start(Lane& lane, Job& job) {
  const std::size_t index = job.next++;
  lane.generation = &job.generations[index];
  lane.index = index;
  lane.job = &job;
  if (!lane.kept) lane.session->ClearCancel();
  try {
    lane.generation->Start(*lane.session, loop_);
  } catch (...) {
    lane.generation->Finish(FinishReason::kStop);
    job.error = std::current_exception();
    job.wake.notify_one();
  }
}

void Scheduler::CollectTurns() {
  turns_.clear();
  stepping_lanes_.clear();
  for (Lane& lane : lanes_) {
    if (lane.generation == nullptr || lane.job->is_listening()) continue;
    lane.generation->CheckTime();
    if (lane.generation->finished()) {
      lane.job->wake.notify_one();
      Release(lane);
      continue;
    }
    turns_.push_back(lane.generation->NextTurn());
    stepping_lanes_.push_back(&lane);
  }
}

void Scheduler::RecordRound(const RoundReport& report) {
  const double linger = std::min(report.round_seconds * kLingerShare, kMostLinger);
  linger_until_ = Clock::now() + ToDuration(linger);
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    Lane& lane = *stepping_lanes_[i];
    Job& job = *lane.job;
    lane.generation->Record(turns_[i], report);
    job.polled = false;
    if (job.hooks->on_tokens && !turns_[i].emitted.empty()) {
      job.heard.push_back(&lane);
      job.turns.push_back(turns_[i]);
      job.wake.notify_one();
    } else if (lane.generation->finished()) {
      Release(lane);
      job.wake.notify_one();
    }
  }
}

void Scheduler::FailRound(const std::exception_ptr& error) {
  for (Lane* lane : stepping_lanes_) {
    lane->job->error = error;
    lane->job->wake.notify_one();
  }
}

// Runs the caller's hooks without the mutex. Its rows are not in a round meanwhile, or, where it
// only polls, nobody waits for it.
void Scheduler::Deliver(Job& job, std::unique_lock<std::mutex>& lock) {
  job.polled = true;
  const bool hears = !job.heard.empty();
  job.delivering = hears;
  if (hears) WakeOne(&job);
  lock.unlock();
  std::exception_ptr error;
  std::size_t stopped = 0;  // A bit for each row that was told to stop.
  try {
    for (std::size_t i = 0; hears && i < job.heard.size(); ++i) {
      if (!job.hooks->on_tokens(job.heard[i]->index, job.turns[i].emitted)) {
        job.turns[i].ended = true;
        ++stopped;
      } else {
        job.turns[i].ended = false;
      }
    }
    if (job.hooks->poll) job.hooks->poll();
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  job.delivering = false;
  for (std::size_t i = 0; hears && i < job.heard.size(); ++i) {
    Lane& lane = *job.heard[i];
    if (stopped > 0 && job.turns[i].ended) lane.generation->Finish(FinishReason::kStop);
    if (lane.generation->finished()) Release(lane);
  }
  if (hears) {
    job.heard.clear();
    job.turns.clear();
  }
  if (error != nullptr) std::rethrow_exception(error);
}

// The row is somebody else's from now on; it is emptied before the next round.
void Scheduler::Release(Lane& lane) {
  lane.generation = nullptr;
  lane.job = nullptr;
}

void Scheduler::Tidy() {
  bool empty = true;
  for (Lane& lane : lanes_) {
    if (!lane.kept && lane.generation == nullptr && !lane.session->empty()) {
      lane.session->Reset();
      loop_.Begin(*lane.session);
    }
    empty = empty && lane.session->empty();
  }
  if (empty) loop_.Clear();
}

void Scheduler::Wait(Job& job, std::unique_lock<std::mutex>& lock) {
  Clock::time_point until = Clock::now() + std::chrono::duration_cast<Clock::duration>(kLook);
  if (!stepping_ && pauses_ == 0 && linger_until_ > Clock::now()) {
    until = std::min(until, linger_until_);
  }
  job.wake.wait_until(lock, until);
  if (job.hooks->poll && Clock::now() >= until) job.polled = false;
}

// Lets some thread run the next round whose own cannot go on with it.
void Scheduler::WakeOne(const Job* except) {
  for (Job* job : jobs_) {
    if (job == except || job->delivering) continue;
    job->wake.notify_one();
    return;
  }
}

void Scheduler::Leave(Job& job, std::unique_lock<std::mutex>& lock) {
  job.delivering = true;  // No new round takes its rows in ...
  ++pauses_;              // ... and the one under way is waited for.
  round_ended_.wait(lock, [&] { return !stepping_; });
  --pauses_;
  for (Lane& lane : lanes_) {
    if (lane.job == &job) Release(lane);
  }
  jobs_.remove(&job);
  if (jobs_.empty()) Tidy();
  round_ended_.notify_all();
  WakeOne(nullptr);
}

Session& Scheduler::Keep() {
  const Clock::time_point called = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  CheckCaller();
  while (true) {
    if (closed_) {
      throw Error(ErrorCode::kUsage, "This generator was closed.", "Load the build again.");
    }
    for (Lane& lane : lanes_) {
      if (lane.kept || lane.generation != nullptr) continue;
      lane.kept = true;
      ++pauses_;
      round_ended_.wait(lock, [&] { return !stepping_; });
      --pauses_;
      lane.session->Reset();
      lane.session->ClearCancel();
      loop_.Begin(*lane.session);
      WakeOne(nullptr);
      return *lane.session;
    }
    const bool waits =
        waiting_.seconds < 0 ? RowsWillFree() : SecondsSince(called) < waiting_.seconds;
    if (!waits) {
      throw Error(ErrorCode::kBusy,
                  "All " + std::to_string(lanes_.size()) + " rows of this build are taken.",
                  "Close a session, or build with a larger --batch-size.");
    }
    round_ended_.wait_for(lock, kLook);
  }
}

void Scheduler::GiveBack(Session& session) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Lane& lane : lanes_) {
    if (lane.session == &session) lane.kept = false;
  }
  round_ended_.notify_all();
  WakeOne(nullptr);
}

int Scheduler::free_rows() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int>(std::count_if(lanes_.begin(), lanes_.end(), [](const Lane& lane) {
    return !lane.kept && lane.generation == nullptr;
  }));
}

Scheduler::Pause::Pause(Scheduler& scheduler) : scheduler_(scheduler), lock_(scheduler.mutex_) {
  scheduler_.CheckCaller();
  ++scheduler_.pauses_;
  scheduler_.round_ended_.wait(lock_, [&] { return !scheduler_.stepping_; });
}

Scheduler::Pause::~Pause() {
  --scheduler_.pauses_;
  scheduler_.WakeOne(nullptr);
}

void Scheduler::CheckIdle(const Session& session) const {
  for (const Lane& lane : lanes_) {
    if (lane.session != &session || lane.generation == nullptr) continue;
    throw Error(ErrorCode::kUsage, "This session is writing a text.",
                "Wait until it has ended, or cancel it.");
  }
  for (const Job* job : jobs_) {
    if (job->kept != &session) continue;
    throw Error(ErrorCode::kUsage, "This session is writing a text.",
                "Wait until it has ended, or cancel it.");
  }
}

bool Scheduler::AllFree() const {
  return std::none_of(lanes_.begin(), lanes_.end(),
                      [](const Lane& lane) { return lane.kept || lane.generation != nullptr; });
}

void Scheduler::Close() {
  std::unique_lock<std::mutex> lock(mutex_);
  CheckCaller();
  closed_ = true;
  for (Job* job : jobs_) job->wake.notify_one();
  round_ended_.wait(lock, [&] { return jobs_.empty() && !stepping_; });
}

}  // namespace ptgc
