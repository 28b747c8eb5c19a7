// RowQueue: which calls have which rows of the batch, and which wait for one.
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

// What a caller may hear of while its texts are written; all of it runs in the calling thread.
struct Hooks {
  // New tokens of request `index`; false ends that text (finish reason stop). May be empty.
  std::function<bool(std::size_t index, std::span<const TokenId>)> on_tokens = {};
  // Runs after every round that this thread has run, at least every 50 ms while it waits, and once
  // before the call returns; may throw to give up. Rounds of all may wait for it: it should be
  // quick. May be empty.
  std::function<void()> poll = {};
  // Set from any thread: ends all texts of the call (finish reason cancelled), those that wait for
  // a row within 50 ms. May be null.
  const std::atomic<bool>* cancelled = nullptr;
};

// How long calls wait for a row.
struct Waiting {
  // Seconds; 0: a call for which there is no row fails at once. Negative: as long as texts are
  // being written, which will end; not for rows that open sessions keep.
  double seconds = -1;
  // Texts that may wait for a row, of all threads, sessions to be opened included; a call that
  // makes them more is refused. -1: any number.
  int max_texts = -1;
};

struct Job;

// One row and what it is busy with.
struct Lane {
  Session* session;                  // The row.
  bool kept = false;                 // Whether an open session has it.
  bool given_back = false;           // Whether that session was closed while it writes.
  Generation* generation = nullptr;  // What is being written in it.
  std::size_t index = 0;             // Which one of its job's that is.
  Job* job = nullptr;                // Whose.

  bool is_free() const { return !kept && generation == nullptr; }
};

// One call of one thread: texts to be written, or a session to be opened. Its memory is the
// caller's stack.
struct Job {
  Job(std::span<Generation> wanted, const Hooks& heard_with, std::size_t num_rows);

  std::span<Generation> generations;  // What it wants written.
  const Hooks* hooks;                 // What it hears.
  Session* kept = nullptr;            // The only row for it; null for any.
  bool opens = false;                 // Whether it wants a row for a session instead.
  Lane* opened = nullptr;             // That row, once it has it.
  std::thread::id thread = std::this_thread::get_id();
  Clock::time_point called = Clock::now();
  std::size_t next = 0;          // The first that has had no row yet.
  int num_rows = 0;              // Rows that it has.
  bool started = false;          // Whether it has had a row.
  bool may_end_waiting = false;  // Whether any of its texts may end before it has a row.
  bool delivering = false;       // Its hooks are running, or it is leaving.
  bool polled = true;            // Its poll has run since the last round.
  std::vector<Lane*> heard;      // Rows whose new tokens it has not heard of yet.
  std::vector<Turn> turns;       // The tokens.
  // What has failed: it ends with the first. No other thread has the same exceptions.
  std::vector<std::exception_ptr> errors;
  std::condition_variable wake;  // Something happened for it.

  bool is_done() const;
  // Whether it still waits for a row.
  bool wants_row() const { return opens ? opened == nullptr : next < generations.size(); }
  // Whether its rows must stay as they are, because its caller is yet to hear of them.
  bool is_listening() const { return delivering || !heard.empty(); }
  // Whether rounds may take its texts in.
  bool takes_part() const { return !is_listening() && errors.empty(); }
};

// Calls come from one thread at a time; the scheduler's mutex sees to that.
class RowQueue {
 public:
  // `sessions` has one per row of the batch.
  RowQueue(DecodeLoop& loop, std::span<Session* const> sessions, Waiting waiting);

  std::vector<Lane>& lanes() { return lanes_; }
  const std::list<Job*>& jobs() const { return jobs_; }
  std::size_t num_free() const;

  // The job waits for its rows from now on. Throws a busy error where it may not even begin to.
  void Add(Job& job);
  // Its rows are free from now on.
  void Remove(Job& job);
  // Ends texts whose deadline passed before they had a row. Throws a busy error where the job has
  // waited for its first row longer than it may.
  void CheckWaiting(Job& job) const;
  // When CheckWaiting will throw, as far as time decides; `latest` where it will not before that.
  Clock::time_point WaitsUntil(const Job& job, Clock::time_point latest) const;

  // Whose turn it is to be given a free row; null where nobody takes one.
  Job* NextForRow() const;
  // Between rounds: empties rows that nobody uses.
  void Tidy();
  // Between rounds: free rows go, one by one, to the job that has the fewest; of equals, to the one
  // that has been without one for longest.
  void AssignRows();
  // The row is somebody else's from now on; Tidy empties it.
  void Release(Lane& lane);
  // The session that kept the row is closed; a text that it writes is cancelled first.
  void GiveBack(Session& session);
  // Whether a text is being written in a kept row, or is about to be.
  bool IsWriting(const Session& session) const;

 private:
  Lane& LaneOf(const Session& session);
  Lane* FreeLane();
  bool LeavesRow(const Job& opening) const;
  static void SkipFinished(Job& job);
  void Start(Lane& lane, Job& job);

  DecodeLoop& loop_;         // Whose rows.
  Waiting waiting_;          // How long jobs wait.
  std::vector<Lane> lanes_;  // [batch]
  std::list<Job*> jobs_;     // In the order in which they lost a row last, or called.
};

}  // namespace ptgc
