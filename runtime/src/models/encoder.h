// Encoder: reads the sources of rows, and keeps what other roles attend to.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/token.h"
#include "bundle/bundle.h"
#include "bundle/plan.h"
#include "engines/engine.h"

namespace ptgc {

// One row and what its encoder reads.
struct Source {
  int row = 0;                      // Index in the batch.
  std::span<const TokenId> tokens;  // At most the plan's longest source.
};

// One tensor that an encoder writes.
struct EncoderOutput {
  std::string written;              // The port of the encoder.
  std::string read;                 // The port of the role that attends to it.
  DType dtype = DType::kFloat32;    // Element type.
  std::vector<std::int64_t> shape;  // [batch, ..., source_length, ...]
};

// Keys and values for every layer of a target, written once per text.
std::vector<EncoderOutput> CrossStates(std::span<const LayerState> states, const ShapePlan& shapes);
// The rows that a decoder reads directly: port encoder_hidden_states.
std::vector<EncoderOutput> HiddenStates(const Role& encoder, const ShapePlan& shapes);

// Sources that are encoded later must not disturb other rows. The engine therefore writes into
// separate buffers, from which each row's part is copied.
class Encoder {
 public:
  Encoder(std::unique_ptr<Engine> engine, std::vector<EncoderOutput> outputs,
          const ShapePlan& shapes);

  // Starts to encode these rows' sources in one run; the states of other rows stay. Runs of other
  // engines that start afterwards see the new states.
  void Encode(std::span<const Source> sources);
  // Waits for what Encode started.
  void Wait();
  // Copies one row's source to another row.
  void CopyRow(int from, int to);
  // The ports through which a role sees the sources.
  std::vector<Tensor> Ports() const;
  // Time inside the engine during the last Encode and Wait.
  double engine_seconds() const { return engine_seconds_; }

 private:
  // One output: as the engine writes it, and as it is read.
  struct State {
    Tensor read;                // The tensor that other roles bind.
    Block written_block;        // Written by the engine's last run.
    Block read_block;           // Read by other roles.
    std::size_t row_bytes = 0;  // Bytes of one sequence.
  };
  void Fill(const Source& source);
  void KeepRow(int row);
  // Copies one row of a state.
  void Copy(const State& state, const Block& from, int from_row, int to_row);

  std::unique_ptr<Engine> engine_;  // Runs the graph.
  std::shared_ptr<Memory> memory_;  // Memory of its outputs.
  int batch_;                       // Sequences.
  int source_length_;               // Most tokens of a source.
  Buffer input_ids_;                // [batch, source_length]
  Buffer mask_;                     // [batch, source_length], for the run.
  Buffer read_mask_;                // [batch, source_length], of all texts.
  std::vector<State> states_;       // All outputs.
  std::unique_ptr<Call> call_;      // The engine's only call.
  bool is_started_ = false;         // Whether a run was started and not waited for.
  double engine_seconds_ = 0;       // Time inside the engine.
};

}  // namespace ptgc
