// Encoder: reads the sources of rows, and keeps what other roles attend to of them.
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
  int row = 0;                      // Its place in the batch.
  std::span<const TokenId> tokens;  // At most the plan's longest source.
};

// One tensor that an encoder writes.
struct EncoderOutput {
  std::string written;              // The port of the encoder.
  std::string read;                 // The port of the role that attends to it.
  DType dtype = DType::kFloat32;    // Element type.
  std::vector<std::int64_t> shape;  // [batch, ..., source_length, ...]
};

// Keys and values for every layer of a target, written once for each text.
std::vector<EncoderOutput> CrossStates(std::span<const LayerState> states, const ShapePlan& shapes);
// The rows that a decoder reads as they are: port encoder_hidden_states.
std::vector<EncoderOutput> HiddenStates(const Role& encoder, const ShapePlan& shapes);

// Rows that are read later must not disturb the others: the engine writes into buffers of its own,
// from which a row's part is copied.
class Encoder {
 public:
  Encoder(std::unique_ptr<Engine> engine, std::vector<EncoderOutput> outputs,
          const ShapePlan& shapes);

  // Starts to read these rows' sources in one run; the states of the others stay. Runs of other
  // engines that start from then on see them.
  void Encode(std::span<const Source> sources);
  // For what Encode started.
  void Wait();
  // Makes one row's source another's.
  void CopyRow(int from, int to);
  // The ports through which a role sees the sources.
  std::vector<Tensor> Ports() const;
  // Time inside the engine during the last Encode and Wait.
  double engine_seconds() const { return engine_seconds_; }

 private:
  // One output: as the engine writes it, and as it is read.
  struct State {
    Tensor read;                // What other roles are bound to.
    Block written_block;        // Of the engine's last run.
    Block read_block;           // Of the texts.
    std::size_t row_bytes = 0;  // Of one sequence.
  };
  void Fill(const Source& source);
  void KeepRow(int row);
  // Copies one row of a state.
  void Copy(const State& state, const Block& from, int from_row, int to_row);

  std::unique_ptr<Engine> engine_;  // Runs the graph.
  std::shared_ptr<Memory> memory_;  // Where what it writes lies.
  int batch_;                       // Sequences.
  int source_length_;               // Tokens of a source at most.
  Buffer input_ids_;                // [batch, source_length]
  Buffer mask_;                     // [batch, source_length], of the run.
  Buffer read_mask_;                // [batch, source_length], of the texts.
  std::vector<State> states_;       // All outputs.
  std::unique_ptr<Call> call_;      // Bound once.
  bool is_started_ = false;         // Whether nobody has waited for the last run.
  double engine_seconds_ = 0;       // Inside it.
};

}  // namespace ptgc
