#include "bundle/drafter_rules.h"

#include <string>
#include <string_view>

#include "bundle/port_names.h"
#include "drafters/registry.h"

namespace ptgc {
namespace {

// A drafter of blocks must know its mask token, and its rows must see each other where it reads
// states.
void CheckBlocks(const Fields& build, const Bundle& bundle) {
  const DrafterKind* kind = FindDrafterKind(bundle.plan.drafter.kind);
  const auto drafter = bundle.roles.find("drafter");
  if (!kind->drafts_blocks || drafter == bundle.roles.end()) return;
  const auto& parameters = bundle.plan.drafter.Own<BlockParameters>();
  const TokenId mask = parameters.mask_token_id;
  if (drafter->second.vocab_size > 0 && mask >= drafter->second.vocab_size) {
    build.Add("roles.drafter", " has " + std::to_string(drafter->second.vocab_size) +
                                   " tokens; plan.drafter.mask_token_id is " +
                                   std::to_string(mask) + ".");
  }
  for (const LayerState& state : drafter->second.states) {
    if (!state.shared_with) continue;
    build.Add("roles.drafter",
              " shares layers with another role, which a drafter of blocks cannot.");
    break;
  }
  if (kind->reads_states && !parameters.reads_pairs &&
      drafter->second.attention != AttentionKind::kBlock) {
    build.Add("roles.drafter", " must have block attention, with states; plan.drafter.kind is '" +
                                   bundle.plan.drafter.kind + "'.");
  }
}

// A drafter must read what the target gives, carry on rows of the same size, and give a draft for
// every node.
void CheckTaps(const Fields& build, const Bundle& bundle) {
  const DrafterKind& kind = LearnedKind(bundle.plan.drafter);
  const auto target = bundle.roles.find("target");
  if (bundle.plan.loop != LoopKind::kSpeculative || !kind.reads_states ||
      target == bundle.roles.end()) {
    return;
  }
  const Port* given = FindPort(target->second.outputs, ports::kHiddenStates);
  for (const std::string_view name : kind.roles) {
    const auto role = bundle.roles.find(std::string(name));
    if (role == bundle.roles.end()) continue;
    const std::string where = "roles." + role->first;
    if (given == nullptr) {
      build.Add(where, " reads hidden_states, which the target does not give.");
      continue;
    }
    for (const Port* port : {FindPort(role->second.inputs, ports::kHiddenStates),
                             FindPort(role->second.outputs, ports::kCarriedStates)}) {
      if (port == nullptr) continue;
      if (port->dtype == given->dtype && port->last_size == given->last_size) continue;
      build.Add(where, " reads other hidden_states than the target gives.");
    }
    const Port* ids = name == "heads" ? FindPort(role->second.inputs, "input_ids") : nullptr;
    if (ids != nullptr && ids->last_size != 1) {
      build.Add(where, " reads " + std::to_string(ids->last_size) + " input_ids of a text, not 1.");
    }
    const Port* drafts = FindPort(role->second.outputs, ports::kDraftIds);
    const int wanted = bundle.plan.drafter.parts.empty()
                           ? bundle.plan.tree.num_nodes() - 1
                           : bundle.plan.drafter.parts.back().num_draft_tokens;
    if (drafts != nullptr && drafts->last_size != wanted) {
      build.Add(where, " gives " + std::to_string(drafts->last_size) + " drafts; plan.tree has " +
                           std::to_string(wanted) + ".");
    }
  }
}

// The target must give as many of the likeliest tokens as the drafter reads.
void CheckTopIds(const Fields& build, const Bundle& bundle) {
  const auto target = bundle.roles.find("target");
  const int count = bundle.plan.drafter.parameters->num_top_ids;
  if (count == 0 || target == bundle.roles.end()) return;
  const Port* given = FindPort(target->second.outputs, ports::kTopIds);
  if (given != nullptr && given->last_size == count) return;
  const std::string what = given == nullptr ? "none" : std::to_string(given->last_size);
  build.Add("roles.target", " gives " + what +
                                " of the likeliest tokens (top_ids); plan.drafter reads " +
                                std::to_string(count) + ".");
}

}  // namespace

void CheckDrafterRoles(const Fields& build, const Bundle& bundle) {
  CheckBlocks(build, bundle);
  CheckTaps(build, bundle);
  CheckTopIds(build, bundle);
}

}  // namespace ptgc
