// The engines that build.json lists: files that a vendor's compiler made of roles ahead of time.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "plan.h"

namespace ptgc {

// The engine's file of each role, as build.json spells it; none where the library compiles while it
// loads. Throws bundle errors where a role has several, where a build that needs engines was only
// prepared, and where a shape of the plan is outside of what an engine takes.
std::map<std::string, std::string> ReadEngines(const nlohmann::json& build,
                                               const ShapePlan& shapes);

}  // namespace ptgc
