// The engines that build.json lists: files that a vendor's compiler made ahead of time.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "bundle/plan.h"

namespace ptgc {

// An engine that was compiled ahead of time.
struct EngineFile {
  std::string path;              // As written in build.json.
  bool updates_in_place = true;  // Whether cache inputs and outputs may share an address.

  bool operator==(const EngineFile&) const = default;
};

// The engine of each role; empty if the library compiles when it loads. Throws bundle errors if a
// role has several engines, if a build that needs engines was only prepared, or if an engine does
// not take a shape of the plan.
std::map<std::string, EngineFile> ReadEngines(const nlohmann::json& build, const ShapePlan& shapes);

}  // namespace ptgc
