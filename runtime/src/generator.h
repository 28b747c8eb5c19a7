// Generator: a loaded build that steps up to a batch of sessions in a round.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "bundle.h"
#include "generation.h"
#include "request.h"
#include "schedule.h"
#include "session.h"
#include "speculative_loop.h"
#include "target.h"

namespace ptgc {

// How a build is loaded.
struct GeneratorOptions {
  int num_threads = 0;               // Threads of the engine; 0: its choice.
  std::string library;               // The engine library; empty: found.
  std::map<int, double> cost_curve;  // Measured seconds by width, or none.
  DraftLengthMode draft_length = DraftLengthMode::kMeasured;  // How many drafts are verified.
  int num_draft_tokens = -1;                                  // The most drafts; -1: the plan's.
};

// What a caller may hear of while its texts are written; both run in the calling thread.
struct Hooks {
  // New tokens of request `index`; false ends that text (finish reason stop). May be empty.
  Schedule::OnTokens on_tokens;
  // Runs after every round; may throw to give up. May be empty.
  std::function<void()> poll;
};

class Generator;

// A row that somebody uses; gives it back when it goes.
class RowLease {
 public:
  RowLease(Generator& generator, int row) : generator_(&generator), row_(row) {}
  ~RowLease() { Release(); }
  RowLease(RowLease&& other) noexcept;
  RowLease& operator=(RowLease&&) = delete;

  int row() const { return row_; }
  void Release();

 private:
  Generator* generator_;  // Whose row; null once moved or given back.
  int row_;               // Its place in the batch.
};

// Many threads may use one; calls that run the engine wait for each other.
class Generator {
 public:
  // Reads the build, opens its backend and engine. Throws bundle, backend and usage errors.
  static std::unique_ptr<Generator> Open(const std::filesystem::path& build_directory,
                                         const GeneratorOptions& options);
  Generator(Bundle bundle, std::unique_ptr<Engine> engine, const GeneratorOptions& options);

  // Writes any number of texts through the free rows; they come back in the order of `requests`.
  // Every request is checked before any runs. Throws a busy error where no row is free.
  std::vector<Result> Generate(std::span<const Request> requests, const Hooks& hooks);

  // Seconds of each of `repeats` engine runs over all rows. Needs every row to be free.
  std::vector<double> Measure(int num_tokens, int num_logits, int past_length, int repeats);

  // Gives the engine's memory back; whatever follows is a usage error.
  void Close();

  int free_rows() const;
  double load_seconds() const { return load_seconds_; }
  const Bundle& bundle() const { return bundle_; }
  const std::string& library_version() const { return library_version_; }

 private:
  friend class RowLease;
  friend class SessionHandle;

  // Holds the lock, and refuses a call from within one of the caller's own hooks.
  class Entry {
   public:
    explicit Entry(Generator& generator);
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    Generator& generator_;               // Whose lock.
    std::unique_lock<std::mutex> lock_;  // Held while this lives.
  };

  // A free row; throws a busy error where there is none.
  RowLease TakeRow();
  // Up to `count` free rows, but at least one.
  std::vector<RowLease> TakeRows(std::size_t count);
  void CheckRequests(std::span<const Request> requests) const;
  // Round after round until all is done.
  void Run(Schedule schedule, const Hooks& hooks);
  // Empties what nobody uses, so that it neither counts as text nor keeps a large cache in use.
  void TidyRows();

  Bundle bundle_;                                   // What was loaded.
  SessionLimits limits_;                            // What a session may hold.
  std::vector<std::unique_ptr<Session>> sessions_;  // One per row.
  std::unique_ptr<Target> target_;                  // Runs the engine; null once closed.
  std::unique_ptr<SpeculativeLoop> loop_;           // Steps the sessions.
  std::unique_ptr<std::atomic<bool>[]> taken_;      // Which rows somebody uses.
  std::mutex mutex_;                                // Held while the engine or a session is used.
  std::atomic<std::thread::id> owner_;              // Who holds it.
  double load_seconds_ = 0;                         // Time that Open took.
  std::string library_version_;                     // Of the engine library.
};

}  // namespace ptgc
