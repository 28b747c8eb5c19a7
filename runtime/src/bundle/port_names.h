// Names of ports between target and drafter, as in ptgc/spec/ports.py.
#pragma once

namespace ptgc::ports {

inline constexpr const char* kHiddenStates = "hidden_states";
inline constexpr const char* kCarriedStates = "carried_states";
inline constexpr const char* kDraftIds = "draft_ids";
inline constexpr const char* kTopIds = "top_ids";

}  // namespace ptgc::ports
