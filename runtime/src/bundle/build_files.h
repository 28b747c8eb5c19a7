// The files of a build on their way into an engine library: read once, and verified before anything
// parses them.
#pragma once

#include "bundle/bundle.h"
#include "engines/engine.h"

namespace ptgc {

// Throws a bundle error unless the manifest that was read is the one that the build was made from,
// and each file that is no engine's, such as weights, has its hash.
void VerifyOtherFiles(const Bundle& bundle);

// The graph or engine of a role. Throws a bundle error where `verify` and its hash is another, and
// for a graph that names external data besides the files of the build.
EngineSource ReadEngineSource(const Bundle& bundle, const Role& role, bool verify);

}  // namespace ptgc
