#include "bundle/bundle.h"

#include <algorithm>
#include <array>
#include <exception>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/whole_file.h"
#include "bundle/bundle_engines.h"
#include "bundle/json_document.h"
#include "bundle/plan_reader.h"
#include "bundle/role_reader.h"
#include "bundle/role_rules.h"
#include "bundle/shape_rules.h"
#include "bundle/shapes_reader.h"
#include "drafters/registry.h"

namespace ptgc {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kSchemaVersion = 1;
// Features that this version supports; a bundle that needs another is refused, naming it.
constexpr std::array<std::string_view, 8> kFeatures = {
    "speculative-loop", "canvas-loop",          "one-shot-loop", "edit-loop",
    "kv-cache-full",    "sliding-window-cache", "encoder",       "block-cache"};
constexpr std::string_view kDrafterFeature = "drafter-";  // Followed by the drafter's kind.
constexpr const char* kExportAgain = "Export the bundle again, or install a newer ptgc.";

[[noreturn]] void Refuse(const std::string& message, const std::string& action) {
  throw Error(ErrorCode::kBundle, message, action);
}

std::string BuildAgain(const fs::path& build) {
  return "Build it again: ptgc build " + build.parent_path().parent_path().string() + " --id " +
         build.filename().string() + " --replace";
}

bool HasFeature(std::string_view name) {
  if (name.starts_with(kDrafterFeature)) {
    return FindDrafterKind(name.substr(kDrafterFeature.size())) != nullptr;
  }
  return std::find(kFeatures.begin(), kFeatures.end(), name) != kFeatures.end();
}

// The features that a document lists, and those of the drafters in its plan.
json FeaturesOf(const json& document) {
  json features = document.value("features", json::array());
  if (!features.is_array()) return features;
  const auto add = [&](const json& drafter) {
    if (!drafter.is_object() || !drafter.contains("kind") || !drafter["kind"].is_string()) return;
    features.push_back(std::string(kDrafterFeature) + drafter["kind"].get<std::string>());
  };
  static const json::json_pointer kDrafter("/plan/drafter"), kMerged("/plan/drafter/drafters");
  if (document.contains(kDrafter)) add(document.at(kDrafter));
  if (document.contains(kMerged) && document.at(kMerged).is_array()) {
    for (const json& drafter : document.at(kMerged)) add(drafter);
  }
  return features;
}

// Throws if the document is from a newer ptgc or another program.
void CheckReadable(const json& document, const std::string& name) {
  const auto version = document.find("schema_version");
  if (version == document.end() || !version->is_number_integer()) {
    Refuse(name + " is not a ptgc manifest: it has no schema_version.", kExportAgain);
  }
  Problems ignored;
  const std::string runtime = Printable(Fields(document, "", ignored).Text("min_runtime"));
  const std::string newer =
      "Install ptgc " + (runtime.empty() ? "of a newer version" : runtime) + " or newer.";
  if (!IntegerIn(*version, {0, kSchemaVersion}).has_value()) {
    Refuse(name + " has schema version " + version->dump() + "; this ptgc reads up to " +
               std::to_string(kSchemaVersion) + ".",
           newer);
  }
  std::string unknown;
  const json features = FeaturesOf(document);
  for (const json& feature : features) {
    const std::string text = feature.is_string() ? feature.get<std::string>() : "no text";
    if (HasFeature(text)) continue;
    unknown += (unknown.empty() ? "" : ", ") + Printable(text.substr(0, limits::kTextLength));
    if (unknown.size() > limits::kTextLength) break;
  }
  if (unknown.empty() && features.is_array()) return;
  Refuse(name + " needs features that this ptgc does not have: " + unknown + ".", newer);
}

// Resolves names of files in a folder; the names in a hostile document may lead out of it.
class Folder {
 public:
  explicit Folder(fs::path root) : root_(std::move(root)) {}

  // The absolute path that a field names; the folder itself if there is a problem.
  fs::path Resolve(const Fields& data, const char* field) const {
    const std::string name = data.Text(field);
    if (name.find_first_of(std::string_view("\\\0", 2)) != std::string::npos || !IsInside(name)) {
      data.Add(field, ": the file '" + name + "' would lie outside the bundle.");
      return root_;
    }
    std::error_code failure;
    const fs::path resolved = fs::weakly_canonical(root_ / name, failure);
    if (failure) {
      data.Add(field, ": the file '" + name + "' cannot be: " + failure.message() + ".");
    } else if (!IsInside(resolved.lexically_relative(root_))) {
      data.Add(field, ": the file '" + name + "' is a link that leads out of the bundle.");
    }
    return failure ? root_ : resolved;
  }

 private:
  fs::path root_;  // Absolute, without links.
};

std::vector<FileEntry> ReadFiles(const Fields& document, const Folder& folder) {
  std::vector<FileEntry> files;
  for (const Fields& entry : document.List("files", /*may_be_absent=*/false, limits::kFiles)) {
    FileEntry file;
    file.path = folder.Resolve(entry, "path");
    file.size = static_cast<std::uintmax_t>(entry.Integer("size", limits::kFileSize));
    file.sha256 = entry.Text("sha256");
    files.push_back(std::move(file));
  }
  return files;
}

// Checks that each file exists and has its size.
void CheckFiles(const std::vector<FileEntry>& files, const fs::path& root, Problems& problems) {
  for (const FileEntry& file : files) {
    const std::string name =
        std::string("'").append(file.path.lexically_relative(root).string()).append("'");
    std::error_code failure;
    const bool is_file = fs::is_regular_file(file.path, failure);
    const std::uintmax_t size = is_file ? fs::file_size(file.path, failure) : 0;
    if (!is_file || failure) {
      problems.Add(name + (fs::exists(file.path, failure) ? " is no file." : " is missing."));
    } else if (size != file.size) {
      problems.Add(name + " has " + std::to_string(size) + " bytes instead of " +
                   std::to_string(file.size) + ".");
    }
  }
}

void CheckListed(const Fields& data, const char* field, const fs::path& path,
                 const std::vector<FileEntry>& files) {
  const bool is_listed = std::any_of(files.begin(), files.end(),
                                     [&](const FileEntry& file) { return file.path == path; });
  if (!is_listed) data.Add(field, " names a file that is not listed in files.");
}

// Must be a valid folder name; it also becomes part of other names.
std::string ReadId(const Fields& build) {
  std::string id = build.Text("id");
  const bool is_plain =
      !id.empty() && id.front() != '.' && std::none_of(id.begin(), id.end(), [](char byte) {
        return byte == '/' || byte == '\\' || (byte >= 0 && byte < ' ');
      });
  if (!is_plain) build.Add("id", " is no name of a folder.");
  return id;
}

// Reads build.json, except for its engines.
void ReadBuild(const Fields& build, const Folder& folder, Bundle& bundle) {
  bundle.id = ReadId(build);
  bundle.sequence = build.OptionalInteger("sequence", limits::kSequence).value_or(0);
  bundle.backend = build.Text("backend");
  bundle.device = build.Text("device");
  if (build.Find("min_onnxruntime") != nullptr) {
    bundle.min_onnxruntime = build.Text("min_onnxruntime");
  }
  bundle.bundle_sha256 = build.Text("bundle_sha256");
  bundle.files = ReadFiles(build, folder);
  bundle.shapes = ReadShapes(build);
  static const json kNone = json::object();
  Problems& problems = build.problems();
  const json* options = build.Find("engine_options");
  const Fields engine_options(options == nullptr ? kNone : *options, "build.json: engine_options.",
                              problems);
  if (options != nullptr && !options->is_object()) {
    build.Add("engine_options", " must be an object.");
  }
  for (const auto& [name, data] : build.Map("roles", limits::kRoles)) {
    Role& role = bundle.roles[name] = ReadRole(data);
    role.graph = folder.Resolve(data, "graph");
    role.engine_options = ReadEngineOptions(engine_options, name.c_str());
    CheckListed(data, "graph", role.graph, bundle.files);
  }
  CheckRoles(build, bundle);
  CheckShapes(build, bundle);
}

// Replaces graphs by engines that were compiled ahead of time.
void TakeEngines(const json& build, const Folder& folder, Bundle& bundle) {
  Problems problems;
  const Fields fields(build, "build.json: ", problems);
  const std::map<std::string, EngineFile> engines = ReadEngines(build, bundle.shapes);
  for (const Fields& data : fields.List("engines", /*may_be_absent=*/true)) {
    const std::string name = data.Text("role");
    const auto role = bundle.roles.find(name);
    if (role == bundle.roles.end()) {
      data.Add("role", " is '" + name + "', which is no role of the build.");
      continue;
    }
    role->second.graph = folder.Resolve(data, "path");
    role->second.is_compiled = true;
    role->second.updates_in_place = engines.at(name).updates_in_place;
    CheckListed(data, "path", role->second.graph, bundle.files);
  }
  if (!problems.empty()) {
    Refuse("The build in '" + bundle.directory.string() + "' is damaged: " + problems.Text(),
           BuildAgain(bundle.directory));
  }
}

Bundle Read(const fs::path& directory) {
  const fs::path root = directory.parent_path().parent_path();
  const std::string again = BuildAgain(directory);
  const JsonDocument manifest = ReadJsonDocument(root, "manifest.json", kExportAgain);
  CheckReadable(manifest.object, "manifest.json");
  const JsonDocument build = ReadJsonDocument(directory, "build.json", again);
  CheckReadable(build.object, "build.json");
  Bundle bundle;
  bundle.directory = directory;
  bundle.manifest_sha256 = manifest.sha256;
  Problems problems;
  const Fields exported(manifest.object, "manifest.json: ", problems);
  bundle.model = ReadModel(exported);
  bundle.plan = ReadPlan(exported, bundle.model);
  bundle.generation = ReadGeneration(exported, bundle.model);
  ReadFiles(exported, Folder(root));
  const bool is_exported_well = problems.empty();
  const Folder folder(directory);
  ReadBuild(Fields(build.object, "build.json: ", problems), folder, bundle);
  if (problems.empty()) CheckFiles(bundle.files, directory, problems);
  if (!problems.empty()) {
    Refuse("The build in '" + directory.string() + "' is damaged: " + problems.Text(),
           is_exported_well ? again : kExportAgain);
  }
  TakeEngines(build.object, folder, bundle);
  return bundle;
}

}  // namespace

const Port* FindPort(const std::vector<Port>& ports, std::string_view name) {
  const auto port =
      std::find_if(ports.begin(), ports.end(), [&](const Port& one) { return one.name == name; });
  return port == ports.end() ? nullptr : &*port;
}

Bundle ReadBundle(const fs::path& build_directory) {
  std::error_code failure;
  const fs::path directory = fs::canonical(build_directory, failure);
  if (failure || !fs::is_directory(directory, failure)) {
    Refuse("There is no build in '" + build_directory.string() + "'.",
           "Build again with `ptgc build`.");
  }
  try {
    return Read(directory);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // From the JSON library or the file system.
    Refuse("Cannot read the manifests of '" + directory.string() + "': " + error.what() + ".",
           kExportAgain);
  }
}

}  // namespace ptgc
