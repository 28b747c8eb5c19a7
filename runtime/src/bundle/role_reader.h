// Reads a role of build.json.
#pragma once

#include <map>
#include <string>

#include "bundle/bundle.h"
#include "bundle/json_document.h"

namespace ptgc {

// One role, without its files.
Role ReadRole(const Fields& data);

// The engine settings of one role in `options`; only a few are allowed.
std::map<std::string, std::string> ReadEngineOptions(const Fields& options, const char* role);

}  // namespace ptgc
