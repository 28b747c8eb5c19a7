// Scheduler: lets all threads step their texts in shared rounds.
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

// A round takes in all texts that are ready for it. It is run by one of the threads that wait for
// their texts; callbacks run in the thread of their call, and a text whose callback is running is
// not ready. The next round waits for those a moment, so that threads do not take turns.
class Scheduler {
 public:
  // `sessions` has one per row of the batch. `counters` are the engines', where they have any.
  Scheduler(DecodeLoop& loop, std::span<Session* const> sessions, Waiting waiting,
            std::shared_ptr<const DeviceCounters> counters = nullptr);

  // Holds rounds off while it lives, so that sessions may be touched. Throws a usage error where
  // the caller is in one of its own callbacks, or all is closed.
  class Pause {
   public:
    explicit Pause(Scheduler& scheduler);
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    friend class Scheduler;
    // Lets rounds begin again, once the lock is given up.
    void End();

    Scheduler& scheduler_;               // Whose rounds.
    std::unique_lock<std::mutex> lock_;  // Held while this lives.
    bool holds_ = true;                  // Until End.
  };

  // Writes the texts, in order, through whatever rows there are. Throws busy errors, what hooks
  // throw, and what the engine throws.
  void Write(std::span<Generation> generations, const Hooks& hooks);
  // Writes a text in a kept row. What the caller has found out in the pause holds until the text
  // has its place; the pause ends with that.
  void Continue(Pause& pause, Session& session, Generation& generation, const Hooks& hooks);

  // An empty row for a session, until it is given back. Throws a busy error, and what the poll
  // throws, which takes no row then.
  Session& Keep(const Hooks& hooks);
  int free_rows();

  // While it is held, no row changes owner, though a round may run. Throws a usage error in a
  // process that was forked: the lock may be held for good there.
  [[nodiscard]] std::unique_lock<std::mutex> Lock();
  // Whether this is the process that made it.
  bool is_home() const { return home_.is_current(); }
  // Locked: throws a usage error where the caller is in one of its own callbacks, or all is closed.
  void CheckCaller() const;
  // Locked: throws a usage error where somebody's text is being written in this kept row.
  void CheckIdle(const Session& session) const;
  // Locked: the session that kept this row is closed. A text that it writes is cancelled; the row
  // is free when that has ended.
  void GiveBack(Session& session);
  // Inside a pause: empties rows that nobody uses. Whether no row is in use at all.
  bool AllFree();

  // Ends what is under way with a usage error, waits for it, and refuses everything from then on.
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

  HomeProcess home_;                                // Where its threads are.
  DecodeLoop& loop_;                                // Steps the rows.
  std::shared_ptr<const DeviceCounters> counters_;  // What the engines count; null on the host.
  std::mutex mutex_;                                // Guards all that follows.
  RowQueue rows_;                                   // Who has them.
  std::vector<Turn> turns_;                         // The round under way ...
  std::vector<Lane*> stepping_lanes_;               // ... and whose turns those are.
  bool stepping_ = false;                           // A thread is in a round, without the mutex.
  int pauses_ = 0;                                  // Threads that want rounds to hold off.
  std::condition_variable round_ended_;  // For those, for who leaves early, and for Close.
  Clock::time_point linger_until_;       // Until when the next round waits for callbacks.
  bool closed_ = false;                  // Refuses everything.
};

}  // namespace ptgc
