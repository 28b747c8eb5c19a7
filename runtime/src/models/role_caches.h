// The caches of a build's roles; roles that share layers have one common cache.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "bundle/bundle.h"
#include "engines/engine.h"
#include "models/kv_cache.h"

namespace ptgc {

// Caches by role, for roles that have rounds, in the memory of their engines.
std::map<std::string, std::shared_ptr<KVCache>> MakeCaches(
    const Bundle& bundle, const std::map<std::string, std::unique_ptr<Engine>>& engines);

}  // namespace ptgc
