// Generator: a loaded build that steps up to a batch of sessions in a round.
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
  LoadOptions load;     // Engines, and how they are used.
  Waiting waiting;      // How long calls wait for a row.
  bool verify = false;  // Check every file's hash before anything parses it.
};

// The most threads of an engine: more than any machine of this size has use for, and few enough to
// be started at all.
int MostThreads();

// Many threads may use one.
class Generator {
 public:
  // Reads the build, opens its backend and engines. Throws bundle, backend and usage errors, and
  // capacity errors where it does not fit into memory.
  static std::unique_ptr<Generator> Open(const std::filesystem::path& build_directory,
                                         const GeneratorOptions& options);
  // The same of a build that was read.
  static std::unique_ptr<Generator> Open(Bundle bundle, const GeneratorOptions& options);
  // Takes engines that are loaded already, by role.
  Generator(Bundle bundle, Engines engines, const GeneratorOptions& options);
  ~Generator();
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  // Writes any number of texts through the free rows; they come back in the order of `requests`.
  // Every request is checked before any runs.
  std::vector<Result> Generate(std::span<const Request> requests, const Hooks& hooks);

  // Seconds of each bare engine run. Needs every row to be free.
  std::vector<double> Measure(const EngineRuns& runs);

  // Gives the engines' memory back; whatever follows is a usage error.
  void Close();
  // The same without waiting for what is under way, and without giving memory back.
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
  // Throws for options out of range, or that the loop does not have.
  void CheckSampling(const SamplingOptions& sampling) const;

  Bundle bundle_;                                   // What was loaded.
  SessionLimits limits_;                            // What a session may hold.
  std::vector<std::unique_ptr<Session>> sessions_;  // One per row.
  std::unique_ptr<DecodeLoop> loop_;                // Steps the sessions; null once closed.
  std::unique_ptr<Scheduler> scheduler_;            // Shares its rounds.
  double load_seconds_ = 0;                         // Time that Open took.
  std::string library_version_;                     // Of the engine library.
};

}  // namespace ptgc
