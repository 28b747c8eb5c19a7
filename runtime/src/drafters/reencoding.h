// Reencoding: converts tokens between the vocabularies of target and drafter.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc {

// Returns the text after the first `context` ids in another vocabulary's ids, by decoding and
// encoding it. May throw; runs in the thread that runs the round.
using Reencode =
    std::function<std::vector<TokenId>(std::span<const TokenId> ids, std::size_t context)>;

// Conversions between the vocabularies of target and drafter.
struct Reencoding {
  Reencode to_drafter;  // From the target's ids.
  Reencode to_target;   // From the drafter's.
};

}  // namespace ptgc
