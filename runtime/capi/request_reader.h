// Reads and checks requests of C callers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "handles.h"
#include "loops/request.h"
#include "ptgc.h"
#include "stop_sequences.h"

namespace ptgc::capi {

// A ptgc_request in the core's form, and the parts that the core leaves to its caller.
struct ReadRequest {
  Request request;      // The core's request; its seed is set if tokens are sampled.
  StopSequences stops;  // Sequences that end the text.
};

// Reads a request for a text that already has `held` tokens. Throws usage errors that name every
// field out of range, and capacity errors.
ReadRequest ReadRequestOf(const ptgc_request* given, const Generator& generator, std::int64_t held);

// Throws a usage error if an array's count is impossibly large, probably because it was not
// initialised. The array is not read.
void CheckCount(std::size_t count, std::int64_t most, const std::string& name);

// Reads `count` tokens. Throws a usage error that names `name` if the pointer is NULL, and a
// capacity error if no prompt of the build can be so long, before any token is read.
std::vector<TokenId> ReadTokens(const ptgc_token_id* token_ids, std::size_t count,
                                const Generator& generator, const char* name);

}  // namespace ptgc::capi
