// BuildChoice: which build of a bundle is loaded, as ptgc.spec.bundle chooses it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace ptgc::capi {

// A file of a build and what it must be.
struct FileDigest {
  std::string path;    // Relative to the build.
  std::string sha256;  // Lower-case hexadecimal.
};

// One build of a bundle, as far as it matters for choosing it.
struct BuildChoice {
  std::filesystem::path directory;  // BUNDLE/builds/ID.
  std::string id;                   // Its name.
  std::string backend;              // Which engine library runs it.
  std::string device;               // What kind of device it is for.
  std::string bundle_sha256;        // The export that it was made from.
  std::int64_t sequence = 0;        // The newest has the largest.
  std::vector<FileDigest> files;    // Its files.
};

// The build at `path`, which is a bundle or one build of it. Of a bundle, the build named `id`, or
// where that is empty the newest one made for `device` from this export that is run unasked.
// Throws bundle errors, and backend errors where all are of experimental backends.
BuildChoice ChooseBuild(const std::filesystem::path& path, const std::string& id,
                        const std::string& device);

// Throws a bundle error unless every file is the one that was built.
void VerifyHashes(const BuildChoice& build);

// Seconds of a round by role and width, as measured for this build on this device with so many
// threads; empty where nothing was.
std::map<std::string, std::map<int, double>> MeasuredCosts(const BuildChoice& build,
                                                           int num_threads);

// What `ptgc tune` found for a build on this device.
struct Tuning {
  int num_threads = 0;       // Threads of the engine.
  int num_draft_tokens = 0;  // The most drafts of a round.
};

// That of this build, where it was tuned here.
std::optional<Tuning> MeasuredTuning(const BuildChoice& build);

}  // namespace ptgc::capi
