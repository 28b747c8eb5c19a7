#include "text_stream.h"

namespace ptgc::capi {

bool TextStream::Append(std::span<const TokenId> tokens) {
  const std::size_t searched = text_.size();
  text_.insert(text_.end(), tokens.begin(), tokens.end());
  stopped_at_ = stops_.Find(text_, searched);
  const bool go_on = HandOn(stopped_at_.value_or(stops_.Certain(text_)));
  return go_on && !stopped_at_.has_value();
}

void TextStream::Finish(Result& result) {
  if (stopped_at_.has_value()) {
    result.token_ids.resize(*stopped_at_);
    result.finish_reason = FinishReason::kStop;
  } else if (!refused_) {
    HandOn(text_.size());
  }
}

bool TextStream::HandOn(std::size_t end) {
  const std::span<const TokenId> tokens(text_);
  const std::size_t start = heard_;
  heard_ = end;
  const bool go_on = callback_(index_, start, tokens.subspan(start, end - start));
  refused_ = refused_ || !go_on;
  return go_on;
}

}  // namespace ptgc::capi
