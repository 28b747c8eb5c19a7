// Reads what manifest.json says of the loop and of the model.
#pragma once

#include "bundle/bundle.h"
#include "bundle/json_document.h"
#include "bundle/plan.h"

namespace ptgc {

ModelFacts ReadModel(const Fields& manifest);
// How tokens are chosen where requests do not say.
GenerationDefaults ReadGeneration(const Fields& manifest, const ModelFacts& model);
// The loop and its policies, over a model's vocabulary.
DecodePlan ReadPlan(const Fields& manifest, const ModelFacts& model);

}  // namespace ptgc
