// Requests of C callers, read and checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "handles.h"
#include "loops/request.h"
#include "ptgc.h"
#include "stop_sequences.h"

namespace ptgc::capi {

// A ptgc_request in the core's form, and what the core leaves to its caller.
struct ReadRequest {
  Request request;      // What the core is asked for; its seed is set where tokens are drawn.
  StopSequences stops;  // What ends the text.
};

// Reads a request for a text that has `held` tokens already. Throws usage errors that name every
// field out of range, and capacity errors.
ReadRequest ReadRequestOf(const ptgc_request* given, const Generator& generator, std::int64_t held);

// Throws a usage error for more things of an array than make sense: a count that was never set. The
// array is not looked at.
void CheckCount(std::size_t count, std::int64_t most, const std::string& name);

// `count` tokens; throws a usage error that calls them `name` where there are none to read, and a
// capacity error where no prompt of the build is so long, before any of them is looked at.
std::vector<TokenId> ReadTokens(const ptgc_token_id* token_ids, std::size_t count,
                                const Generator& generator, const char* name);

}  // namespace ptgc::capi
