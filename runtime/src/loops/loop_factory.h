// Makes the loop of a build from its engines and its load options.
#pragma once

#include <memory>
#include <span>

#include "bundle/bundle.h"
#include "loops/decode_loop.h"
#include "loops/load_options.h"
#include "loops/session.h"

namespace ptgc {

// The loop of a build for `sessions`, one per row of the batch. Throws usage errors for options
// that contradict the plan.
std::unique_ptr<DecodeLoop> MakeLoop(const Bundle& bundle, Engines engines,
                                     const LoadOptions& options,
                                     std::span<Session* const> sessions);

}  // namespace ptgc
