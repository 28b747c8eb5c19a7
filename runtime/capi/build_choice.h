// Chooses the build of a bundle, as ptgc.spec.bundle does, and reads its measurements.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bundle/bundle.h"

namespace ptgc::capi {

// The build at `path`, which is a bundle or one build of it. For a bundle, the build named `id`, or
// if that is empty the newest one for `device` from this export that is selected by default; builds
// that cannot be read are skipped. Throws bundle errors, and backend errors if all builds are of
// experimental backends.
Bundle ChooseBuild(const std::filesystem::path& path, const std::string& id,
                   const std::string& device);

// Seconds of a round by role and width, as measured for this build on this device with this number
// of threads and this drafter (empty: the first); empty if not measured.
std::map<std::string, std::map<int, double>> MeasuredCosts(const Bundle& build, int num_threads,
                                                           const std::string& drafter = "");

// The settings that `ptgc tune` found for a build on this device.
struct Tuning {
  int num_threads = 0;                   // Threads of the engine.
  int num_draft_tokens = 0;              // The most drafts of a round, at most the plan's.
  bool overlap = false;                  // Whether drafts are made while the target verifies.
  std::optional<std::vector<int>> tree;  // Parents of the part of the plan's tree that drafts fill.
  std::vector<double> gains;             // Of that tree, or of a chain; see LoadOptions.
  std::string drafter;                   // The role that drafts; empty: the first.
};

// The settings of this build; none if it was not tuned here.
std::optional<Tuning> MeasuredTuning(const Bundle& build);

}  // namespace ptgc::capi
