// Which build of a bundle is loaded, as ptgc.spec.bundle chooses it, and what was measured of it.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "bundle/bundle.h"

namespace ptgc::capi {

// The build at `path`, which is a bundle or one build of it. Of a bundle, the build named `id`, or
// where that is empty the newest one made for `device` from this export that is run unasked; what
// cannot be read is passed over. Throws bundle errors, and backend errors where all are of
// experimental backends.
Bundle ChooseBuild(const std::filesystem::path& path, const std::string& id,
                   const std::string& device);

// Seconds of a round by role and width, as measured for this build on this device with so many
// threads; empty where nothing was.
std::map<std::string, std::map<int, double>> MeasuredCosts(const Bundle& build, int num_threads);

// What `ptgc tune` found for a build on this device.
struct Tuning {
  int num_threads = 0;       // Threads of the engine.
  int num_draft_tokens = 0;  // The most drafts of a round, at most the plan's.
};

// That of this build, where it was tuned here.
std::optional<Tuning> MeasuredTuning(const Bundle& build);

}  // namespace ptgc::capi
