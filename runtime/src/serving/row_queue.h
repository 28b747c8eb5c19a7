// RowQueue: which calls own which rows of the batch, and which wait for one.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <list>
#include <span>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/token.h"
#include "loops/decode_loop.h"
#include "loops/session.h"
#include "serving/generation.h"

namespace ptgc {

// Callbacks of a caller while its texts are written; they all run in the calling thread.
struct Hooks {
  // New tokens of request `index`; false ends that text (finish reason stop). May be empty.
  std::function<bool(std::size_t index, std::span<const TokenId>)> on_tokens = {};
  // The positions of the canvas of request `index` that a round filled, and their tokens; comes
  // before the new tokens of that round. May be empty.
  std::function<void(std::size_t index, std::span<const int>, std::span<const TokenId>)> on_fills =
      {};
  // Runs after every round that this thread has run, at least every 50 ms while it waits, and once
  // before the call returns. May throw to give up. Everyone's rounds may wait for it, so it should
  // be quick. May be empty.
  std::function<void()> poll = {};
  // May be set from any thread: ends all texts of the call (finish reason cancelled); texts that
  // wait for a row end within 50 ms. May be null.
  const std::atomic<bool>* cancelled = nullptr;
};

// How long calls wait for a row.
struct Waiting {
  // Seconds. 0: a call that finds no row fails at once. Negative: waits as long as texts are being
  // written, because those end; does not wait for rows that open sessions keep.
  double seconds = -1;
  // Most texts of all threads that may wait for a row, including sessions to be opened; a call that
  // would exceed it is refused. -1: no limit.
  int max_texts = -1;
};

struct Job;

// One row, and what it is used for.
struct Lane {
  Session* session;                  // The row.
  bool kept = false;                 // Whether an open session owns it.
  bool given_back = false;           // Whether that session was closed while writing.
  Generation* generation = nullptr;  // The text being written in it.
  std::size_t index = 0;             // Index of that text in its job.
  Job* job = nullptr;                // The job of that text.

  bool is_free() const { return !kept && generation == nullptr; }
};

// One call of one thread: texts to write, or a session to open. It lives on the caller's stack.
struct Job {
  Job(std::span<Generation> wanted, const Hooks& heard_with, std::size_t num_rows);

  std::span<Generation> generations;  // The texts to write.
  const Hooks* hooks;                 // The caller's callbacks.
  Session* kept = nullptr;            // The only row that it may use; null for any.
  bool opens = false;                 // Whether it opens a session instead.
  Lane* opened = nullptr;             // The session's row, once it has one.
  std::thread::id thread = std::this_thread::get_id();
  Clock::time_point called = Clock::now();
  std::size_t next = 0;          // The first text that has had no row yet.
  int num_rows = 0;              // Rows that it owns.
  bool started = false;          // Whether it has had a row.
  bool may_end_waiting = false;  // Whether any text may end while it waits.
  bool delivering = false;       // Its hooks are running, or it is leaving.
  bool polled = true;            // Its poll has run since the last round.
  std::vector<Lane*> heard;      // Rows with new tokens not yet delivered.
  std::vector<Turn> turns;       // The turns of those rows.
  // Failures; the call ends with the first. No other thread shares these exceptions.
  std::vector<std::exception_ptr> errors;
  std::condition_variable wake;  // Notified if something changed for it.

  bool is_done() const;
  // Whether it still waits for a row.
  bool wants_row() const { return opens ? opened == nullptr : next < generations.size(); }
  // Whether its rows must not change, because tokens are still to be delivered to its caller.
  bool is_listening() const { return delivering || !heard.empty(); }
  // Whether its texts may take part in rounds.
  bool takes_part() const { return !is_listening() && errors.empty(); }
};

// Used by one thread at a time, under the scheduler's mutex.
class RowQueue {
 public:
  // `sessions` has one per row of the batch.
  RowQueue(DecodeLoop& loop, std::span<Session* const> sessions, Waiting waiting);

  std::vector<Lane>& lanes() { return lanes_; }
  const std::list<Job*>& jobs() const { return jobs_; }
  std::size_t num_free() const;

  // Adds a job, which then waits for rows. Throws a busy error if it may not even wait.
  void Add(Job& job);
  // Removes a job and frees its rows.
  void Remove(Job& job);
  // Ends texts whose deadline passed before they had a row. Throws a busy error if the job has
  // waited too long for its first row.
  void CheckWaiting(Job& job) const;
  // When CheckWaiting would throw because of the time waited; at most `latest`.
  Clock::time_point WaitsUntil(const Job& job, Clock::time_point latest) const;

  // The job that gets the next free row; null if none takes one.
  Job* NextForRow() const;
  // Between rounds: clears rows that nobody uses.
  void Tidy();
  // Between rounds: gives free rows, one by one, to the job that has the fewest; among equals, to
  // the one that has waited longest since it gave up a row.
  void AssignRows();
  // Releases a row from its job; Tidy clears it.
  void Release(Lane& lane);
  // Called when the session that kept the row is closed; a text that it is writing is cancelled
  // first.
  void GiveBack(Session& session);
  // Whether a text is being written in a kept row, or is about to be.
  bool IsWriting(const Session& session) const;

 private:
  Lane& LaneOf(const Session& session);
  Lane* FreeLane();
  bool LeavesRow(const Job& opening) const;
  static void SkipFinished(Job& job);
  void Start(Lane& lane, Job& job);

  DecodeLoop& loop_;         // The loop that the rows belong to.
  Waiting waiting_;          // How long jobs wait.
  std::vector<Lane> lanes_;  // [batch]
  std::list<Job*> jobs_;     // Ordered by when they last released a row, or called.
};

}  // namespace ptgc
