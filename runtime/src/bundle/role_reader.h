// Reads a role of build.json.
#pragma once

#include <map>
#include <string>

#include "bundle/bundle.h"
#include "bundle/json_document.h"

namespace ptgc {

// One role, apart from its files.
Role ReadRole(const Fields& data);

// The settings of one role's engine among `options`; a build may set a few only.
std::map<std::string, std::string> ReadEngineOptions(const Fields& options, const char* role);

}  // namespace ptgc
