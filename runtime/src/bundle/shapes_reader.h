// Reads the shapes of build.json.
#pragma once

#include "bundle/json_document.h"
#include "bundle/plan.h"

namespace ptgc {

// The shapes that may occur; CheckShapes checks that they suit the roles and the plan.
ShapePlan ReadShapes(const Fields& build);

}  // namespace ptgc
