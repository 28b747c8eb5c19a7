// A made-up language: the next token as a pure function of all tokens before it.
#pragma once

#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc {

constexpr TokenId kVocabSize = 23;

// Mostly a matter of the last two tokens, so that texts repeat themselves; now and then of the
// whole text, so that nothing in the cache may be wrong.
TokenId NextToken(std::span<const TokenId> text);

// What follows `prompt`.
std::vector<TokenId> Continuation(std::vector<TokenId> prompt, int count);

// A prompt of `length` tokens; equal seeds give equal prompts.
std::vector<TokenId> MakePrompt(int length, int seed);

}  // namespace ptgc
