// Reads the loop and the model from manifest.json.
#pragma once

#include "bundle/bundle.h"
#include "bundle/json_document.h"
#include "bundle/plan.h"

namespace ptgc {

ModelFacts ReadModel(const Fields& manifest);
// How tokens are chosen if requests do not say.
GenerationDefaults ReadGeneration(const Fields& manifest, const ModelFacts& model);
// plan.drafter, or one of the drafters merged in it.
DrafterPlan ReadDrafter(const Fields& data);
// The loop and its policies; token ids must be in the model's vocabulary.
DecodePlan ReadPlan(const Fields& manifest, const ModelFacts& model);

}  // namespace ptgc
