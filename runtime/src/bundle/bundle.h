// Bundle: what manifest.json and one build's build.json say, checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/names.h"
#include "base/token.h"
#include "bundle/plan.h"

namespace ptgc {

// What the loops must know of the model.
struct ModelFacts {
  std::string family;                             // The model type of its configuration.
  std::int64_t vocab_size = 0;                    // Entries of the logits.
  std::int64_t context_length = 0;                // Positions that the model was made for.
  std::vector<TokenId> eos_token_ids;             // Any of them ends a text.
  std::optional<TokenId> start_token_id;          // Starts every text of an encoder-decoder.
  std::optional<std::int64_t> source_vocab_size;  // Of prompts, where an encoder has its own.
};

// How tokens are chosen where a request does not say.
struct GenerationDefaults {
  double repetition_penalty = 1;                // See SamplingOptions.
  std::vector<TokenId> suppressed_token_ids{};  // Never chosen.
};

// One input or output of a role's graph; shapes stay with the graph.
struct Port {
  std::string name;               // The name in the graph.
  DType dtype = DType::kFloat32;  // Element type.
  std::int64_t last_size = 0;     // Its last dimension, where that is fixed.
  // The name of each dimension; empty where that is a number.
  std::vector<std::string> dimensions = {};
};

// A layer of another role, whose cache is used.
struct SharedLayer {
  std::string role;  // Who owns the cache.
  int layer = 0;     // Which of its states.
};

// The state of one layer: keys and values, [batch, kv_heads, kv_capacity, head_dim] each.
struct LayerState {
  StateKind kind = StateKind::kFull;         // What is kept.
  int kv_heads = 0;                          // Heads of keys and of values.
  int head_dim = 0;                          // Size of one head.
  DType dtype = DType::kFloat32;             // Element type.
  int window = 0;                            // Tokens attended to; 0 for all.
  std::optional<SharedLayer> shared_with{};  // Whose cache this is; none for the role's own.
};

// One model of a build and the engine that computes it.
struct Role {
  std::filesystem::path graph;                 // The engine's file, absolute.
  bool is_compiled = false;                    // Whether that is no graph any more.
  std::vector<Port> inputs;                    // Ports that come in, states apart.
  std::vector<Port> outputs;                   // Ports that go out, states apart.
  std::vector<LayerState> states;              // The KV cache, layer by layer.
  std::vector<LayerState> cross_states;        // What each layer attends to of an encoder's output.
  std::optional<std::int64_t> context_length;  // Where it differs from the bundle's.
  std::optional<AttentionKind> attention{};    // What the rows of a round may see of each other.
  int mask_extra = 0;                          // Slots that masks govern beside a round's own.
  std::int64_t vocab_size = 0;                 // Entries of its logits; 0 where it has none.

  std::map<std::string, std::string> engine_options;  // Settings that its engine is loaded with.
  bool updates_in_place = true;  // Whether its engine takes and gives caches at one address.
};

// A file of a build, and what it must be.
struct FileEntry {
  std::filesystem::path path;  // Absolute.
  std::uintmax_t size = 0;     // Bytes.
  std::string sha256;          // Lower-case hexadecimal.
};

// One build of a bundle.
struct Bundle {
  DecodePlan plan;                    // The loop and its policies.
  ModelFacts model;                   // What the loop must know of the model.
  GenerationDefaults generation;      // What holds where requests do not say.
  std::filesystem::path directory;    // The build's folder, absolute.
  std::string id;                     // Its name under builds/.
  std::int64_t sequence = 0;          // The newest build has the largest.
  std::string backend;                // Which engine library runs it ...
  std::string device;                 // ... and on what: "cpu", "cuda".
  std::string min_onnxruntime;        // The oldest ONNX Runtime that runs it; empty for any.
  ShapePlan shapes;                   // The shapes that may occur.
  std::map<std::string, Role> roles;  // The models by role name.
  std::vector<FileEntry> files;       // Every file of the build but build.json.
  std::string manifest_sha256;        // Digest of the manifest that was read ...
  std::string bundle_sha256;          // ... and of the one that the build was made from.
};

// Reads `build_directory` (BUNDLE/builds/ID) and the manifest of its bundle, and checks every field
// that is used: ranges, what the loop needs, and that the build's files exist and have their size.
// Hashes are checked when the files are loaded. Throws bundle errors that name every problem found.
Bundle ReadBundle(const std::filesystem::path& build_directory);

}  // namespace ptgc
