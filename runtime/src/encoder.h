// Encoder: reads the sources of all rows, and keeps what the target attends to of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "buffer.h"
#include "bundle.h"
#include "engine.h"
#include "plan.h"
#include "token.h"

namespace ptgc {

// An encoder of an encoder-decoder writes keys and values for every layer of the target once for
// each text: `present.{i}.encoder.key|value`. Rows that are read later must not disturb the others:
// the engine writes into buffers of its own, from which a row's part is copied.
class Encoder {
 public:
  // `cross_states` are the target's, layer by layer.
  Encoder(std::unique_ptr<Engine> engine, std::vector<LayerState> cross_states,
          const ShapePlan& shapes);

  // Reads one row's source: the states of the others stay.
  void Encode(int row, std::span<const TokenId> source);
  // Makes one row's source another's.
  void CopyRow(int from, int to);
  // The ports through which a target sees the sources.
  std::vector<Tensor> Ports() const;
  // Time inside the engine during the last Encode.
  double engine_seconds() const { return engine_seconds_; }

 private:
  // One tensor of the states: as the engine writes it, and as the target reads it.
  struct State {
    Tensor written;
    Tensor read;
    Buffer written_buffer;
    Buffer read_buffer;
    std::size_t row_bytes = 0;
  };

  std::unique_ptr<Engine> engine_;  // Runs the graph.
  int batch_;                       // Sequences.
  int source_length_;               // Tokens of a source at most.
  Buffer input_ids_;                // [batch, source_length]
  Buffer mask_;                     // [batch, source_length], of the run.
  Buffer read_mask_;                // [batch, source_length], of the texts.
  std::vector<State> states_;       // Keys and values of every layer.
  std::unique_ptr<Call> call_;      // Bound once.
  double engine_seconds_ = 0;       // Inside the last run.
};

}  // namespace ptgc
