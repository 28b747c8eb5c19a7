// The engines that build.json lists: files that a vendor's compiler made of roles ahead of time.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "bundle/plan.h"

namespace ptgc {

// One of them.
struct EngineFile {
  std::string path;              // As build.json spells it.
  bool updates_in_place = true;  // Whether caches may come in and go out at one address.

  bool operator==(const EngineFile&) const = default;
};

// The engine of each role; none where the library compiles while it loads. Throws bundle errors
// where a role has several, where a build that needs engines was only prepared, and where a shape
// of the plan is outside of what an engine takes.
std::map<std::string, EngineFile> ReadEngines(const nlohmann::json& build, const ShapePlan& shapes);

}  // namespace ptgc
