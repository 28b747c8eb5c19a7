// Reads the files of a build for an engine library: once, and verified before anything parses them.
#pragma once

#include "bundle/bundle.h"
#include "engines/engine.h"

namespace ptgc {

// Throws a bundle error unless the manifest is the one that the build was made from, and every file
// other than engines, such as weights, has its listed hash.
void VerifyOtherFiles(const Bundle& bundle);

// The graph or engine of a role. Throws a bundle error if `verify` and the hash is wrong, and for a
// graph that names external data outside the files of the build.
EngineSource ReadEngineSource(const Bundle& bundle, const Role& role, bool verify);

}  // namespace ptgc
