// Generator: a loaded build that advances up to a batch of sessions in a round.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bundle/bundle.h"
#include "loops/decode_loop.h"
#include "loops/loop_factory.h"
#include "loops/request.h"
#include "loops/session.h"
#include "serving/scheduler.h"

namespace ptgc {

// How a build is loaded.
struct GeneratorOptions {
  LoadOptions load;     // How engines are loaded and used.
  Waiting waiting;      // How long calls wait for a row.
  bool verify = false;  // Check every file's hash before anything parses it.
};

// The most threads that an engine may have: more than this machine can use, and few enough that
// they can be started.
int MostThreads();

// Safe to use from many threads.
class Generator {
 public:
  // Reads the build, opens its backend and engines. Throws bundle, backend and usage errors, and
  // capacity errors if it does not fit into memory.
  static std::unique_ptr<Generator> Open(const std::filesystem::path& build_directory,
                                         const GeneratorOptions& options);
  // The same for a build that was read already.
  static std::unique_ptr<Generator> Open(Bundle bundle, const GeneratorOptions& options);
  // Uses engines that are already loaded, by role.
  Generator(Bundle bundle, Engines engines, const GeneratorOptions& options);
  ~Generator();
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  // Writes any number of texts in the free rows and returns them in the order of `requests`. All
  // requests are checked before any runs.
  std::vector<Result> Generate(std::span<const Request> requests, const Hooks& hooks);

  // Seconds of each bare engine run. Needs every row to be free.
  std::vector<double> Measure(const EngineRuns& runs);

  // Releases the engines' memory; any later call is a usage error.
  void Close();
  // The same without waiting for running calls, and without releasing memory.
  void Stop();

  int free_rows() const { return scheduler_->free_rows(); }
  double load_seconds() const { return load_seconds_; }
  const Bundle& bundle() const { return bundle_; }
  const SessionLimits& limits() const { return limits_; }
  const std::string& library_version() const { return library_version_; }

 private:
  friend class SessionHandle;

  static std::unique_ptr<Generator> Load(Bundle bundle, const GeneratorOptions& options);

  void CheckRequests(std::span<const Request> requests) const;
  // Throws for options that are out of range or that the loop does not have.
  void CheckOptions(const Request& request) const;

  Bundle bundle_;                                   // What was loaded.
  SessionLimits limits_;                            // What a session may hold.
  std::vector<std::unique_ptr<Session>> sessions_;  // One per row.
  std::unique_ptr<DecodeLoop> loop_;                // Steps the sessions; null once closed.
  std::unique_ptr<Scheduler> scheduler_;            // Shares the loop's rounds.
  double load_seconds_ = 0;                         // Time that Open took.
  std::string library_version_;                     // Version of the engine library.
};

}  // namespace ptgc
