#include "build_choice.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <tuple>

#include "error.h"
#include "sha256.h"

namespace ptgc::capi {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The backend whose builds are run unasked; engines of others are experimental, and run where
// their build is named.
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

BuildChoice ReadBuild(const fs::path& directory) {
  const fs::path path = directory / "build.json";
  std::ifstream file(path);
  const json document = json::parse(file, nullptr, /*allow_exceptions=*/false);
  BuildChoice build;
  build.directory = directory;
  try {
    build.id = document.at("id").get<std::string>();
    build.backend = document.at("backend").get<std::string>();
    build.device = document.at("device").get<std::string>();
    build.bundle_sha256 = document.at("bundle_sha256").get<std::string>();
    build.sequence = document.at("sequence").get<std::int64_t>();
    for (const json& entry : document.at("files")) {
      build.files.push_back(
          {entry.at("path").get<std::string>(), entry.at("sha256").get<std::string>()});
    }
  } catch (const json::exception& error) {
    Refuse(Quoted(path) + " is damaged: " + error.what() + ".",
           BuildAgain(directory.parent_path().parent_path(), directory.filename().string()));
  }
  return build;
}

// All builds of a bundle, oldest first.
std::vector<BuildChoice> ReadBuilds(const fs::path& bundle) {
  std::vector<BuildChoice> builds;
  std::error_code failure;
  for (const fs::directory_entry& entry : fs::directory_iterator(bundle / "builds", failure)) {
    // Hidden folders are what a build writes into before it is whole.
    const bool hidden = entry.path().filename().string().starts_with('.');
    if (!hidden && fs::exists(entry.path() / "build.json", failure)) {
      builds.push_back(ReadBuild(entry.path()));
    }
  }
  std::ranges::sort(builds, {}, [](const BuildChoice& b) { return std::tie(b.sequence, b.id); });
  return builds;
}

[[noreturn]] void RefuseUnasked(const BuildChoice& build, const fs::path& bundle) {
  throw Error(ErrorCode::kBackend,
              "Build '" + build.id + "' was made for " + build.backend +
                  ", whose engines are experimental: they run only where their build is named.",
              "Name it, or make one that is run unasked: ptgc build " + bundle.string() +
                  " --device " + build.device);
}

// Throws unless the build is one of this export and for the device.
void CheckFits(const BuildChoice& build, const fs::path& bundle, const std::string& device,
               const std::string& sha256) {
  if (build.device != device) {
    Refuse("Build '" + build.id + "' is for device '" + build.device + "', not '" + device + "'.",
           MakeOne(bundle, device));
  }
  if (build.bundle_sha256 != sha256) {
    Refuse("Build '" + build.id + "' was made from another export of this bundle.",
           BuildAgain(bundle, build.id));
  }
}

BuildChoice Newest(const fs::path& bundle, const std::string& device, const std::string& sha256) {
  std::vector<BuildChoice> builds = ReadBuilds(bundle);
  std::erase_if(builds, [&](const BuildChoice& build) {
    return build.device != device || build.bundle_sha256 != sha256;
  });
  const auto newest = std::find_if(builds.rbegin(), builds.rend(), [](const BuildChoice& build) {
    return build.backend == kRunnable;
  });
  if (newest != builds.rend()) return *newest;
  if (!builds.empty()) RefuseUnasked(builds.back(), bundle);
  Refuse(Quoted(bundle) + " has no build for device '" + device + "'.", MakeOne(bundle, device));
}

BuildChoice Named(const fs::path& bundle, const std::string& id) {
  std::string known;
  for (const BuildChoice& build : ReadBuilds(bundle)) {
    if (build.id == id) return build;
    known += (known.empty() ? "" : ", ") + build.id;
  }
  Refuse(Quoted(bundle) + " has no build '" + id +
             "'; it has: " + (known.empty() ? "none" : known) + ".",
         "Make one: ptgc build " + bundle.string() + " --id " + id);
}

}  // namespace

BuildChoice ChooseBuild(const fs::path& path, const std::string& id, const std::string& device) {
  std::error_code failure;
  const fs::path place = fs::canonical(path, failure);
  const bool is_build = !failure && fs::exists(place / "build.json", failure);
  const fs::path bundle = is_build ? place.parent_path().parent_path() : place;
  if (failure || !fs::exists(bundle / "manifest.json", failure)) {
    Refuse("There is no bundle at " + Quoted(path) + ".", "Make one: ptgc export MODEL -o BUNDLE");
  }
  const std::string sha256 = Sha256OfFile(bundle / "manifest.json");
  if (!is_build && id.empty()) return Newest(bundle, device, sha256);
  BuildChoice build = is_build ? ReadBuild(place) : Named(bundle, id);
  CheckFits(build, bundle, device, sha256);
  return build;
}

void VerifyHashes(const BuildChoice& build) {
  for (const FileDigest& file : build.files) {
    // A path that leaves the build is refused by whoever reads the manifest; it is not opened.
    const fs::path path =
        build.directory / fs::path("/" + file.path).lexically_normal().relative_path();
    if (Sha256OfFile(path) == file.sha256) continue;
    Refuse(Quoted(path) + " has been changed: its sha256 is not that of its manifest.",
           BuildAgain(build.directory.parent_path().parent_path(), build.id));
  }
}

}  // namespace ptgc::capi
