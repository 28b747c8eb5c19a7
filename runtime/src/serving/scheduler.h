// Scheduler: advances the texts of all threads in shared rounds.
#pragma once

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/home_process.h"
#include "loops/decode_loop.h"
#include "loops/session.h"
#include "serving/generation.h"
#include "serving/row_queue.h"

namespace ptgc {

// A round includes all texts that are ready for it. One of the threads that wait for their texts
// runs it. Callbacks run in the thread of their call, and a text whose callback is running is not
// ready. The next round waits a moment for such texts, because otherwise threads would take turns
// instead of sharing rounds.
class Scheduler {
 public:
  // `sessions` has one per row of the batch. `counters` are the engines' counters, or null.
  Scheduler(DecodeLoop& loop, std::span<Session* const> sessions, Waiting waiting,
            std::shared_ptr<const DeviceCounters> counters = nullptr);

  // Blocks rounds while it lives, so that sessions may be changed. Throws a usage error if the
  // caller is in one of its own callbacks, or the scheduler is closed.
  class Pause {
   public:
    explicit Pause(Scheduler& scheduler);
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    friend class Scheduler;
    // Allows rounds again, once the lock is released.
    void End();

    Scheduler& scheduler_;               // The scheduler that is paused.
    std::unique_lock<std::mutex> lock_;  // Held while this lives.
    bool holds_ = true;                  // Whether End is still to be called.
  };

  // Writes the texts, in order, in whatever rows are free. Throws busy errors, what hooks throw,
  // and what the engine throws.
  void Write(std::span<Generation> generations, const Hooks& hooks);
  // Writes a text in a kept row. Ends the pause once the text is queued, so that what the caller
  // checked during the pause still holds.
  void Continue(Pause& pause, Session& session, Generation& generation, const Hooks& hooks);

  // Reserves an empty row for a session until GiveBack. Throws a busy error, and what the poll
  // throws; then no row is taken.
  Session& Keep(const Hooks& hooks);
  int free_rows();

  // While it is held, no row changes owner, though a round may run. Throws a usage error in a
  // forked process, where the lock may be held forever.
  [[nodiscard]] std::unique_lock<std::mutex> Lock();
  // Whether this is the process that created it.
  bool is_home() const { return home_.is_current(); }
  // Needs the lock: throws a usage error if the caller is in one of its own callbacks, or the
  // scheduler is closed.
  void CheckCaller() const;
  // Needs the lock: throws a usage error if a text is being written in this kept row.
  void CheckIdle(const Session& session) const;
  // Needs the lock: called when the session that kept this row is closed. A text that it is writing
  // is cancelled; the row is free once that has ended.
  void GiveBack(Session& session);
  // Inside a pause: clears rows that nobody uses, and returns whether all rows are free.
  bool AllFree();

  // Ends running calls with a usage error, waits for them, and refuses all later calls.
  void Close();
  // The same without waiting.
  void Stop();

 private:
  void Work(Job& job, std::unique_lock<std::mutex>& lock);
  bool MayStep() const;
  void Step(Job& job, std::unique_lock<std::mutex>& lock);
  void CollectTurns();
  void MarkTurnsBesideTexts();
  RoundReport Round();
  void RecordRound(const RoundReport& report);
  void TakeErrors();
  void FailRound(Job& stepper, std::exception_ptr error);
  void Deliver(Job& job, std::unique_lock<std::mutex>& lock);
  void Wait(Job& job, std::unique_lock<std::mutex>& lock);
  void WakeOne(const Job* except = nullptr);
  void Leave(Job& job, std::unique_lock<std::mutex>& lock);
  bool IsStepping(const Job& job) const;
  bool IsInRound(const Job& job) const;
  void CheckHome() const;
  void RefuseAll();

  HomeProcess home_;                                // The process of its threads.
  DecodeLoop& loop_;                                // Advances the rows.
  std::shared_ptr<const DeviceCounters> counters_;  // The engines' counters; null on the host.
  std::mutex mutex_;                                // Guards all members below.
  RowQueue rows_;                                   // Which calls own which rows.
  std::vector<Turn> turns_;                         // The turns of the current round ...
  std::vector<Lane*> stepping_lanes_;               // ... and their rows.
  bool stepping_ = false;                           // Whether a thread runs a round, unlocked.
  int pauses_ = 0;                                  // Threads that block rounds.
  std::condition_variable round_ended_;             // For pauses, Leave and Close.
  Clock::time_point linger_until_;                  // How long the next round waits for callbacks.
  bool closed_ = false;                             // Whether all calls are refused.
};

}  // namespace ptgc
