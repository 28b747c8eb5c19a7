// TextStream: one text on its way to a C caller.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/token.h"
#include "callback.h"
#include "loops/request.h"
#include "stop_sequences.h"

namespace ptgc::capi {

// Cuts a text at its stop sequences and hands it on in chunks. Tokens that may turn out to begin a
// stop sequence are held back.
class TextStream {
 public:
  TextStream(std::size_t index, StopSequences stops, const Callback& callback)
      : index_(index), stops_(std::move(stops)), callback_(callback) {}

  // New tokens; false ends the text.
  bool Append(std::span<const TokenId> tokens);
  // Hands on what was held back and cuts the result at a stop sequence.
  void Finish(Result& result);

 private:
  // Hands on the tokens up to `end`; false where the callback ends the text.
  bool HandOn(std::size_t end);

  std::size_t index_;                      // Which request.
  StopSequences stops_;                    // What ends it.
  Callback callback_;                      // Who listens.
  std::vector<TokenId> text_;              // All tokens so far.
  std::size_t heard_ = 0;                  // Those that were handed on.
  bool refused_ = false;                   // The callback has ended it.
  std::optional<std::size_t> stopped_at_;  // Where a stop sequence begins.
};

}  // namespace ptgc::capi
