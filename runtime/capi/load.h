// Loading a build for a C caller.
#pragma once

#include <memory>

#include "ptgc.h"
#include "serving/generator.h"

namespace ptgc::capi {

// The build that `path` and the options name, loaded and verified. `given` may be null.
std::unique_ptr<Generator> Load(const char* path, const ptgc_load_options* given);

}  // namespace ptgc::capi
