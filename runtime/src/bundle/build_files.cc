#include "bundle/build_files.h"

#include <algorithm>
#include <string>
#include <system_error>

#include "base/error.h"
#include "base/sha256.h"
#include "base/whole_file.h"
#include "bundle/json_document.h"
#include "bundle/onnx_external_data.h"

namespace ptgc {
namespace {

namespace fs = std::filesystem;

std::string BuildAgain(const Bundle& bundle) {
  return "Build it again: ptgc build " + bundle.directory.parent_path().parent_path().string() +
         " --id " + bundle.directory.filename().string() + " --replace";
}

void CheckHash(const Bundle& bundle, const FileEntry& file, const std::string& sha256) {
  if (file.sha256 == sha256) return;
  throw Error(ErrorCode::kBundle,
              file.path.string() + " has been changed: its sha256 is not that of its manifest.",
              BuildAgain(bundle));
}

// Weights that a graph names must be listed, verified files; the library would open any file.
void CheckExternalData(const Bundle& bundle, const EngineSource& source) {
  for (const std::string& name : ExternalFilesOf(source.content, source.path)) {
    std::error_code failure;
    const fs::path path = fs::weakly_canonical(source.path.parent_path() / name, failure);
    const bool is_listed = !failure && name.find('\0') == std::string::npos &&
                           std::any_of(bundle.files.begin(), bundle.files.end(),
                                       [&](const FileEntry& file) { return file.path == path; });
    if (is_listed) continue;
    throw Error(ErrorCode::kBundle,
                source.path.string() + " takes weights from '" + Printable(name) +
                    "', which is no file of its build.",
                "Do not use this build: it was made by hand, or to do harm.");
  }
}

}  // namespace

void VerifyOtherFiles(const Bundle& bundle) {
  if (bundle.manifest_sha256 != bundle.bundle_sha256) {
    throw Error(ErrorCode::kBundle,
                "Build '" + bundle.id + "' was made from another export of this bundle.",
                BuildAgain(bundle));
  }
  for (const FileEntry& file : bundle.files) {
    const bool is_engine =
        std::any_of(bundle.roles.begin(), bundle.roles.end(),
                    [&](const auto& role) { return role.second.graph == file.path; });
    if (!is_engine) CheckHash(bundle, file, Sha256OfFile(file.path, BuildAgain(bundle)));
  }
}

EngineSource ReadEngineSource(const Bundle& bundle, const Role& role, bool verify) {
  std::uintmax_t size = 0;
  for (const FileEntry& file : bundle.files) {
    if (file.path == role.graph) size = file.size;
  }
  EngineSource source{role.graph, ReadWholeFile(role.graph, size, BuildAgain(bundle))};
  if (verify) {
    const std::string sha256 = Sha256Of(source.content);
    for (const FileEntry& file : bundle.files) {
      if (file.path == role.graph) CheckHash(bundle, file, sha256);
    }
  }
  if (!role.is_compiled) CheckExternalData(bundle, source);
  return source;
}

}  // namespace ptgc
