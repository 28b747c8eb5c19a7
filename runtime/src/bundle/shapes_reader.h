// Reads the shapes of build.json.
#pragma once

#include "bundle/json_document.h"
#include "bundle/plan.h"

namespace ptgc {

// The shapes that may occur. Whether they suit roles and plan is checked elsewhere.
ShapePlan ReadShapes(const Fields& build);

}  // namespace ptgc
