// Reads the shapes of build.json.
#pragma once

#include "bundle/json_document.h"
#include "bundle/plan.h"

namespace ptgc {

// The shapes that may occur. Whether they suit the roles is checked elsewhere.
ShapePlan ReadShapes(const Fields& build, const DecodePlan& plan);

}  // namespace ptgc
