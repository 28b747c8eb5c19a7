#include "models/role_caches.h"

#include <vector>

namespace ptgc {
namespace {

using States = std::map<std::string, std::vector<LayerState>>;

bool Shares(const Role& role, const States& owners) {
  for (const LayerState& state : role.states) {
    if (state.shared_with.has_value() && owners.contains(state.shared_with->role)) return true;
  }
  return false;
}

// The states of a role and of all that share layers with it, directly or through others.
States Group(const Bundle& bundle, const std::string& name) {
  States group = {{name, bundle.roles.at(name).states}};
  for (std::size_t size = 0; size != group.size();) {
    size = group.size();
    for (const auto& [other, role] : bundle.roles) {
      const bool shares = group.contains(other) || Shares(role, group);
      if (!shares) continue;
      group[other] = role.states;
      for (const LayerState& state : role.states) {
        if (!state.shared_with.has_value()) continue;
        group[state.shared_with->role] = bundle.roles.at(state.shared_with->role).states;
      }
    }
  }
  return group;
}

}  // namespace

std::map<std::string, std::shared_ptr<KVCache>> MakeCaches(
    const Bundle& bundle, const std::map<std::string, std::unique_ptr<Engine>>& engines) {
  std::map<std::string, std::shared_ptr<KVCache>> caches;
  for (const auto& [name, shapes] : bundle.shapes.roles) {
    if (shapes.widths.empty() || caches.contains(name)) continue;
    const States group = Group(bundle, name);
    const auto cache = std::make_shared<KVCache>(group, bundle.shapes, engines.at(name)->memory());
    for (const auto& [role, states] : group) caches[role] = cache;
  }
  return caches;
}

}  // namespace ptgc
