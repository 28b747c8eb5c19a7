#include "build_choice.h"

#include <algorithm>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"

namespace ptgc::capi {
namespace {

namespace fs = std::filesystem;

// The backend whose builds are selected by default; engines of others are experimental, and run
// only if their build is named.
constexpr std::string_view kRunnable = "onnxruntime";

[[noreturn]] void Refuse(const std::string& message, const std::string& action) {
  throw Error(ErrorCode::kBundle, message, action);
}

std::string Quoted(const fs::path& path) { return std::string("'").append(path).append("'"); }

std::string MakeOne(const fs::path& bundle, const std::string& device) {
  std::string command = "Make one: ptgc build " + bundle.string();
  if (device != "cpu") command.append(" --device ").append(device);
  return command;
}

std::string BuildAgain(const fs::path& bundle, const std::string& id) {
  return "Build it again: ptgc build " + bundle.string() + " --id " + id + " --replace";
}

// The folders of a bundle's builds, by name.
std::vector<fs::path> BuildFolders(const fs::path& bundle) {
  std::vector<fs::path> folders;
  std::error_code failure;
  fs::directory_iterator entry(bundle / "builds", failure);
  for (; !failure && entry != fs::directory_iterator(); entry.increment(failure)) {
    // Hidden folders hold builds that are not complete yet.
    const bool hidden = entry->path().filename().string().starts_with('.');
    std::error_code none;
    if (!hidden && fs::exists(entry->path() / "build.json", none)) {
      folders.push_back(entry->path());
    }
  }
  std::ranges::sort(folders);
  return folders;
}

[[noreturn]] void RefuseUnasked(const Bundle& build, const fs::path& bundle) {
  throw Error(ErrorCode::kBackend,
              "Build '" + build.id + "' was made for " + build.backend +
                  ", whose engines are experimental: they run only where their build is named.",
              "Name it, or make one that is selected by default: ptgc build " + bundle.string() +
                  " --device " + build.device);
}

// Throws unless the build is of this export and for the device.
void CheckFits(const Bundle& build, const fs::path& bundle, const std::string& device) {
  if (build.device != device) {
    Refuse("Build '" + build.id + "' is for device '" + build.device + "', not '" + device + "'.",
           MakeOne(bundle, device));
  }
  if (build.bundle_sha256 != build.manifest_sha256) {
    Refuse("Build '" + build.id + "' was made from another export of this bundle.",
           BuildAgain(bundle, build.id));
  }
}

// A build that is damaged or of a newer ptgc does not affect the others.
Bundle Newest(const fs::path& bundle, const std::string& device) {
  std::vector<Bundle> builds;
  std::string unreadable;
  for (const fs::path& folder : BuildFolders(bundle)) {
    try {
      Bundle build = ReadBundle(folder);
      const bool fits = build.device == device && build.bundle_sha256 == build.manifest_sha256;
      if (fits) builds.push_back(std::move(build));
    } catch (const Error& error) {
      unreadable += " " + error.message();
    }
  }
  std::ranges::sort(builds, {}, [](const Bundle& b) { return std::tie(b.sequence, b.id); });
  const auto newest = std::find_if(builds.rbegin(), builds.rend(),
                                   [](const Bundle& build) { return build.backend == kRunnable; });
  if (newest != builds.rend()) return std::move(*newest);
  if (!builds.empty()) RefuseUnasked(builds.back(), bundle);
  std::string message = Quoted(bundle) + " has no build for device '" + device + "'";
  message += unreadable.empty() ? "." : " that can be read." + unreadable;
  Refuse(message, MakeOne(bundle, device));
}

Bundle Named(const fs::path& bundle, const std::string& id) {
  std::string known;
  for (const fs::path& folder : BuildFolders(bundle)) {
    std::string name = folder.filename().string();
    try {
      Bundle build = ReadBundle(folder);
      if (build.id == id) return build;
      name = build.id;
    } catch (const Error&) {
      if (name == id) throw;
    }
    known += (known.empty() ? "" : ", ") + name;
  }
  Refuse(Quoted(bundle) + " has no build '" + id +
             "'; it has: " + (known.empty() ? "none" : known) + ".",
         "Make one: ptgc build " + bundle.string() + " --id " + id);
}

}  // namespace

Bundle ChooseBuild(const fs::path& path, const std::string& id, const std::string& device) {
  std::error_code failure;
  const fs::path place = fs::canonical(path, failure);
  const bool is_build = !failure && fs::exists(place / "build.json", failure);
  const fs::path bundle = is_build ? place.parent_path().parent_path() : place;
  if (failure || !fs::exists(bundle / "manifest.json", failure)) {
    Refuse("There is no bundle at " + Quoted(path) + ".", "Make one: ptgc export MODEL -o BUNDLE");
  }
  if (!is_build && id.empty()) return Newest(bundle, device);
  Bundle build = is_build ? ReadBundle(place) : Named(bundle, id);
  CheckFits(build, bundle, device);
  return build;
}

}  // namespace ptgc::capi
