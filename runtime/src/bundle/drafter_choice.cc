#include "bundle/drafter_choice.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "drafters/registry.h"

namespace ptgc {

void ChooseDrafter(const std::string& name, Bundle& bundle) {
  const std::vector<std::string> roles = RolesOf(bundle.plan.drafter);
  if (!name.empty() && std::find(roles.begin(), roles.end(), name) == roles.end()) {
    std::string known;
    for (const std::string& role : roles) known += (known.empty() ? "" : ", ") + role;
    throw Error(ErrorCode::kUsage,
                "drafter is '" + name + "'; the roles of this bundle that draft: " +
                    (known.empty() ? "none" : known) + ".",
                "Choose one of them, or leave the choice to what was tuned.");
  }
  if (roles.size() < 2) return;
  const std::string& first = roles.front();
  if (!name.empty() && name != first) {
    std::swap(bundle.roles.at(first), bundle.roles.at(name));
    std::swap(bundle.shapes.roles.at(first), bundle.shapes.roles.at(name));
  }
  for (const std::string& role : roles) {
    if (role == first) continue;
    bundle.roles.erase(role);
    bundle.shapes.roles.erase(role);
  }
}

}  // namespace ptgc
