// Scheduler: gives texts rows, and lets all threads step them in shared rounds.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "clock.h"
#include "decode_loop.h"
#include "generation.h"
#include "session.h"
#include "token.h"

namespace ptgc {

// What a caller may hear of while its texts are written; all of it runs in the calling thread.
struct Hooks {
  // New tokens of request `index`; false ends that text (finish reason stop). May be empty.
  std::function<bool(std::size_t index, std::span<const TokenId>)> on_tokens;
  // Runs after every round of one's own texts and while waiting; may throw to give up. May be
  // empty.
  std::function<void()> poll;
};

// How long calls wait for a row.
struct Waiting {
  // Seconds; 0: a call for which there is no row fails at once. Negative: as long as texts are
  // being written, which will end; not for rows that open sessions keep.
  double seconds = -1;
  int max_texts = -1;  // Texts that may wait, of all threads; one more is refused. -1: any number.
};

// A round takes in all texts that are ready for it. It is run by one of the threads that wait for
// their texts; callbacks run in the thread of their call, and a text whose callback is running is
// not ready. The next round waits for those a moment, so that threads do not take turns.
class Scheduler {
 public:
  // `sessions` has one per row of the batch.
  Scheduler(DecodeLoop& loop, std::span<Session* const> sessions, Waiting waiting);

  // Writes the texts, in order, through whatever rows there are, or through one that is kept.
  // Throws busy errors, what hooks throw, and what the engine throws.
  void Run(std::span<Generation> generations, Session* kept, const Hooks& hooks);

  // A row for a session, until it is given back. Throws a busy error.
  Session& Keep();
  void GiveBack(Session& session);
  int free_rows();

  // Holds rounds off while it lives, so that sessions may be touched. Throws a usage error where
  // the caller is in one of its own callbacks.
  class Pause {
   public:
    explicit Pause(Scheduler& scheduler);
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Scheduler& scheduler_;               // Whose rounds.
    std::unique_lock<std::mutex> lock_;  // Held while this lives.
  };
  // Inside a pause: throws a usage error where somebody's text is being written in this row.
  void CheckIdle(const Session& session) const;
  // Inside a pause: whether no row is in use at all.
  bool AllFree() const;
  // Inside a pause: empties rows that nobody uses.
  void Tidy();

  // Ends what is under way, waits for it, and refuses everything from then on.
  void Close();

 private:
  struct Job;
  // One row and what it is busy with.
  struct Lane {
    Session* session;                  // The row.
    bool kept = false;                 // Whether an open session has it.
    Generation* generation = nullptr;  // What is being written in it.
    std::size_t index = 0;             // Which one of its job's that is.
    Job* job = nullptr;                // Whose.
  };

  void CheckCaller() const;
  void Refuse(Job& job) const;
  bool RowsWillFree() const;
  void CheckWaiting(Job& job) const;
  bool MayStep() const;
  void Step(std::unique_lock<std::mutex>& lock);
  void AssignRows();
  void Start(Lane& lane, Job& job);
  void CollectTurns();
  void RecordRound(const RoundReport& report);
  void FailRound(const std::exception_ptr& error);
  void Deliver(Job& job, std::unique_lock<std::mutex>& lock);
  void Release(Lane& lane);
  void Wait(Job& job, std::unique_lock<std::mutex>& lock);
  void WakeOne(const Job* except);
  void Leave(Job& job, std::unique_lock<std::mutex>& lock);

  DecodeLoop& loop_;                     // Steps the rows.
  Waiting waiting_;                      // How long calls wait.
  mutable std::mutex mutex_;             // Guards all that follows.
  std::vector<Lane> lanes_;              // [batch]
  std::list<Job*> jobs_;                 // In the order of the calls.
  std::vector<Turn> turns_;              // The round under way ...
  std::vector<Lane*> stepping_lanes_;    // ... and whose turns those are.
  bool stepping_ = false;                // A thread is in a round, without the mutex.
  int pauses_ = 0;                       // Threads that want rounds to hold off.
  std::condition_variable round_ended_;  // For those, and for Close.
  Clock::time_point linger_until_;       // Until when the next round waits for callbacks.
  bool closed_ = false;                  // Refuses everything.
};

}  // namespace ptgc
