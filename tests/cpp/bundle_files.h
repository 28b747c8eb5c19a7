// Bundles on disk for the tests that read them: one of every loop, consistent, and free to change.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "temporary_folder.h"

namespace ptgc {

// What one says.
struct BundleDocuments {
  nlohmann::json manifest;  // manifest.json
  nlohmann::json build;     // build.json of the build "toy"
};

// Of n-gram drafts, a drafting model, an encoder-decoder with a window, a canvas, CTC, edits,
// drafters that read states, heads, merged drafters, layers that draft, and a drafter of blocks.
std::vector<BundleDocuments> DocumentsOfEveryLoop();
// The first of them.
BundleDocuments NgramDocuments();
// Those whose drafter reads the likeliest tokens after each row.
BundleDocuments RecyclingDocuments();
// Those with two drafters of one layer of the target each, of which one is chosen.
BundleDocuments LayerSkipDocuments();

// The folder of such a bundle.
class BundleFolder {
 public:
  BundleFolder();

  // Writes both documents; each tells the hash of what it rests on.
  void Write(const BundleDocuments& documents) const;
  const std::filesystem::path& bundle() const { return folder_.path(); }
  const std::filesystem::path& build() const { return build_; }

 private:
  TemporaryFolder folder_;
  std::filesystem::path build_ = folder_.path() / "builds" / "toy";
};

}  // namespace ptgc
