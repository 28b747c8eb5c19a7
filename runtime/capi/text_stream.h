// TextStream: passes one text to a C caller.
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

// Cuts a text at its stop sequences and passes it on in chunks. Tokens that may begin a stop
// sequence are held back.
class TextStream {
 public:
  TextStream(std::size_t index, StopSequences stops, const Callback& callback)
      : index_(index), stops_(std::move(stops)), callback_(callback) {}

  // Adds new tokens; false ends the text.
  bool Append(std::span<const TokenId> tokens);
  // Passes on what was held back, and cuts the result at a stop sequence.
  void Finish(Result& result);

 private:
  // Passes on the tokens up to `end`; false if the callback ends the text.
  bool HandOn(std::size_t end);

  std::size_t index_;                      // Index of the request.
  StopSequences stops_;                    // Sequences that end the text.
  Callback callback_;                      // The caller's callback.
  std::vector<TokenId> text_;              // All tokens so far.
  std::size_t heard_ = 0;                  // Tokens that were passed on.
  bool refused_ = false;                   // Whether the callback ended the text.
  std::optional<std::size_t> stopped_at_;  // Where a stop sequence begins.
};

}  // namespace ptgc::capi
