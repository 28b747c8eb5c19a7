#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "bundle/drafter_choice.h"
#include "bundle_files.h"

namespace ptgc {
namespace {

Bundle Read(const BundleDocuments& documents) {
  const BundleFolder folder;
  folder.Write(documents);
  return ReadBundle(folder.build());
}

// The message of a refusal; empty where a role of that name drafts.
std::string RefusalOf(const std::string& name, Bundle bundle) {
  try {
    ChooseDrafter(name, bundle);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    return error.message();
  }
  return "";
}

TEST(DrafterChoice, TheChosenRoleIsTheOnlyDrafter) {
  for (const auto& [name, layer] :
       {std::pair("", 0), std::pair("drafter", 0), std::pair("drafter_2", 1)}) {
    BundleDocuments documents = LayerSkipDocuments();
    documents.build["shapes"]["roles"]["drafter_2"]["widths"] = {1, 4, 8};
    Bundle bundle = Read(documents);
    ChooseDrafter(name, bundle);
    ASSERT_EQ(bundle.roles.size(), 2U);
    ASSERT_EQ(bundle.shapes.roles.size(), 2U);
    EXPECT_EQ(bundle.roles.at("drafter").states.at(0).shared_with->layer, layer);
    EXPECT_EQ(bundle.shapes.roles.at("drafter").widths.at(1), layer == 0 ? 2 : 4);
  }
}

TEST(DrafterChoice, RolesThatDoNotDraftAreRefused) {
  EXPECT_EQ(RefusalOf("target", Read(LayerSkipDocuments())),
            "drafter is 'target'; the roles of this bundle that draft: drafter, drafter_2.");
  EXPECT_EQ(RefusalOf("drafter", Read(NgramDocuments())),
            "drafter is 'drafter'; the roles of this bundle that draft: none.");
  EXPECT_EQ(RefusalOf("", Read(NgramDocuments())), "");
  EXPECT_EQ(RefusalOf("drafter", Read(DocumentsOfEveryLoop()[1])), "");
}

}  // namespace
}  // namespace ptgc
