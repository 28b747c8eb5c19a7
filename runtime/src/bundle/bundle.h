// Bundle: the checked contents of manifest.json and of one build's build.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/names.h"
#include "base/token.h"
#include "bundle/plan.h"

namespace ptgc {

// What the loops must know about the model.
struct ModelFacts {
  std::string family;                             // The model type of its configuration.
  std::int64_t vocab_size = 0;                    // Entries of the logits.
  std::int64_t context_length = 0;                // Positions that the model was made for.
  std::vector<TokenId> eos_token_ids;             // Any of them ends a text.
  std::optional<TokenId> start_token_id;          // Starts every text of an encoder-decoder.
  std::optional<std::int64_t> source_vocab_size;  // For prompts, if an encoder has its own.
  std::optional<std::string> vocabulary_sha256;   // Of the tokenizer, in hexadecimal digits.
};

// How tokens are chosen if a request does not say.
struct GenerationDefaults {
  double repetition_penalty = 1;                // See SamplingOptions.
  std::vector<TokenId> suppressed_token_ids{};  // Never chosen.
};

// One input or output of a role's graph; its full shape is in the graph.
struct Port {
  std::string name;               // The name in the graph.
  DType dtype = DType::kFloat32;  // Element type.
  std::int64_t last_size = 0;     // Its last dimension if that is fixed.
  // The name of each dimension; empty if the dimension is a number.
  std::vector<std::string> dimensions = {};
};

// A layer of another role whose cache this layer uses.
struct SharedLayer {
  std::string role;  // The role that owns the cache.
  int layer = 0;     // Index of the state in that role.
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
  bool is_compiled = false;                    // Whether that file is compiled.
  std::vector<Port> inputs;                    // Input ports without states.
  std::vector<Port> outputs;                   // Output ports without states.
  std::vector<LayerState> states;              // The KV cache, layer by layer.
  std::vector<LayerState> cross_states;        // Per layer: keys and values of an encoder.
  std::optional<std::int64_t> context_length;  // If it differs from the bundle's.
  std::optional<AttentionKind> attention{};    // Which rows of a round see each other.
  int mask_extra = 0;                          // Slots that masks cover besides the round's.
  std::int64_t vocab_size = 0;                 // Entries of its logits; 0 if it has none.

  std::map<std::string, std::string> engine_options;  // Settings that its engine is loaded with.
  bool updates_in_place = true;  // Whether cache inputs and outputs share an address.
};

// The port of this name; null if there is none.
const Port* FindPort(const std::vector<Port>& ports, std::string_view name);

// A file of a build, with its required size and hash.
struct FileEntry {
  std::filesystem::path path;  // Absolute.
  std::uintmax_t size = 0;     // Bytes.
  std::string sha256;          // Lower-case hexadecimal.
};

// One build of a bundle.
struct Bundle {
  DecodePlan plan;                    // The loop and its policies.
  ModelFacts model;                   // What the loop must know about the model.
  GenerationDefaults generation;      // Used if requests do not say otherwise.
  std::filesystem::path directory;    // The build's folder, absolute.
  std::string id;                     // Its name under builds/.
  std::int64_t sequence = 0;          // The newest build has the largest.
  std::string backend;                // The engine library that runs it ...
  std::string device;                 // ... and the device: "cpu", "cuda".
  std::string min_onnxruntime;        // The oldest ONNX Runtime that runs it; empty for any.
  ShapePlan shapes;                   // The shapes that may occur.
  std::map<std::string, Role> roles;  // The models by role name.
  std::vector<FileEntry> files;       // All files of the build except build.json.
  std::string manifest_sha256;        // Digest of the manifest that was read ...
  std::string bundle_sha256;          // ... and of the one that the build was made from.

  // Sequences that are decoded together: each has a row of a run, and one for each drafted canvas.
  int num_sequences() const { return shapes.batch / (1 + plan.canvas.num_draft_steps); }
};

// Reads `build_directory` (BUNDLE/builds/ID) and its bundle's manifest. Checks every field that is
// used: its range, what the loop needs, and that the build's files exist and have their sizes.
// Hashes are checked when the files are loaded. Throws bundle errors that name every problem found.
Bundle ReadBundle(const std::filesystem::path& build_directory);

}  // namespace ptgc
