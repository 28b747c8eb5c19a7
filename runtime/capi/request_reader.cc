#include "request_reader.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sized_struct.h"
#include "status.h"

namespace ptgc::capi {
namespace {

constexpr std::int64_t kDefaultNewTokens = 256;
// Sizes of version 1 of the API: up to its last fields.
constexpr std::size_t kRequestSize =
    offsetof(ptgc_request, threshold) + sizeof(ptgc_request::threshold);
constexpr std::size_t kSamplingSize = offsetof(ptgc_sampling, top_k) + sizeof(ptgc_sampling::top_k);

// The most tokens of a prompt.
std::int64_t PromptLength(const SessionLimits& limits) {
  return limits.max_source_length > 0 ? limits.max_source_length : limits.length();
}

// New tokens that fit after `held` tokens of text and the prompt; a prompt for an encoder is not
// part of the text.
std::int64_t RoomAfter(std::int64_t held, std::size_t prompt, const SessionLimits& limits) {
  const std::int64_t length = limits.max_source_length > 0
                                  ? std::max<std::int64_t>(held, 1)
                                  : held + static_cast<std::int64_t>(prompt);
  return limits.length() - length;
}

// Throws unless `pointer` may hold `count` items.
void CheckArray(const void* pointer, std::size_t count, const std::string& name) {
  if (pointer != nullptr || count == 0) return;
  RefuseUsage(name + " is NULL, but " + std::to_string(count) + " of them are announced.",
              "Give a pointer, or a count of 0.");
}

std::uint64_t NewSeed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32U) | device();
}

// Suppresses the bundle's tokens, except those that the request names itself.
void AddSuppressed(std::span<const TokenId> token_ids, std::vector<LogitBias>& logit_bias) {
  std::set<TokenId> named;
  for (const LogitBias& bias : logit_bias) named.insert(bias.token_id);
  for (TokenId token : token_ids) {
    if (!named.contains(token)) {
      logit_bias.push_back({token, -std::numeric_limits<float>::infinity()});
    }
  }
}

SamplingOptions ReadSampling(const ptgc_sampling* given, const GenerationDefaults& defaults,
                             const SessionLimits& limits, bool always_draws) {
  SamplingOptions options;
  options.repetition_penalty = defaults.repetition_penalty;
  if (given == nullptr) {
    if (always_draws) options.seed = NewSeed();
    AddSuppressed(defaults.suppressed_token_ids, options.logit_bias);
    return options;
  }
  const ptgc_sampling sampling =
      ReadSized(given, ptgc_sampling PTGC_SAMPLING_INIT, kSamplingSize, "ptgc_sampling");
  options.temperature = sampling.temperature;
  options.top_k = sampling.top_k;
  options.top_p = sampling.top_p;
  options.min_p = sampling.min_p;
  if (sampling.repetition_penalty != 0) options.repetition_penalty = sampling.repetition_penalty;
  options.presence_penalty = sampling.presence_penalty;
  options.frequency_penalty = sampling.frequency_penalty;
  CheckArray(sampling.logit_bias, sampling.num_logit_bias, "ptgc_sampling.logit_bias");
  CheckCount(sampling.num_logit_bias, limits.vocab_size, "logit biases");
  for (std::size_t i = 0; i < sampling.num_logit_bias; ++i) {
    const ptgc_logit_bias& bias = sampling.logit_bias[i];
    options.logit_bias.push_back({bias.token_id, static_cast<float>(bias.bias)});
  }
  AddSuppressed(defaults.suppressed_token_ids, options.logit_bias);
  if (sampling.has_seed != 0 && sampling.has_seed != 1) {
    RefuseUsage(
        "ptgc_sampling.has_seed is " + std::to_string(sampling.has_seed) + "; it must be 0 or 1.",
        "Initialise the struct with PTGC_SAMPLING_INIT.");
  }
  if (always_draws || !options.is_greedy())
    options.seed = sampling.has_seed != 0 ? sampling.seed : NewSeed();
  return options;
}

// Throws unless all are token ids of the text's vocabulary.
void CheckVocabulary(std::span<const TokenId> token_ids, const Bundle& bundle, const char* name) {
  for (TokenId id : token_ids) {
    if (id >= 0 && id < bundle.model.vocab_size) continue;
    RefuseUsage(std::string(name) + " has the token id " + std::to_string(id) +
                    ", which is not in the vocabulary of " +
                    std::to_string(bundle.model.vocab_size) + " entries.",
                "Use the tokenizer of this bundle.");
  }
}

std::vector<TokenId> ReadEndTokens(const ptgc_request& given, const Bundle& bundle) {
  CheckArray(given.eos_token_ids, given.num_eos_token_ids, "ptgc_request.eos_token_ids");
  CheckCount(given.num_eos_token_ids, bundle.model.vocab_size, "end tokens");
  if (given.ignore_eos != 0) return {};
  if (given.eos_token_ids == nullptr) return bundle.model.eos_token_ids;
  const std::span<const TokenId> ids(given.eos_token_ids, given.num_eos_token_ids);
  CheckVocabulary(ids, bundle, "ptgc_request.eos_token_ids");
  return {ids.begin(), ids.end()};
}

std::vector<std::vector<TokenId>> ReadStops(const ptgc_request& given, const Generator& generator) {
  CheckArray(given.stop_sequences, given.num_stop_sequences, "ptgc_request.stop_sequences");
  CheckCount(given.num_stop_sequences, generator.limits().length(), "stop sequences");
  std::vector<std::vector<TokenId>> stops;
  for (std::size_t i = 0; i < given.num_stop_sequences; ++i) {
    const ptgc_token_sequence& sequence = given.stop_sequences[i];
    if (sequence.num_tokens == 0) {
      RefuseUsage("Stop sequence " + std::to_string(i) + " is empty.", "Leave it out.");
    }
    stops.push_back(
        ReadTokens(sequence.token_ids, sequence.num_tokens, generator, "A stop sequence"));
    CheckVocabulary(stops.back(), generator.bundle(), "A stop sequence");
  }
  return stops;
}

// Reports everything that is out of range at once.
void CheckRanges(const ptgc_request& given) {
  std::string problems;
  if (!(given.deadline_seconds >= 0)) {
    problems += "deadline_seconds is " + std::to_string(given.deadline_seconds) +
                "; it must be 0 (never) or more. ";
  }
  if (given.max_new_tokens < 0 || given.max_new_tokens > std::numeric_limits<int>::max()) {
    problems += "max_new_tokens is " + std::to_string(given.max_new_tokens) +
                "; it must be 1 or more, or 0 for the default. ";
  }
  for (const auto& [name, flag] :
       {std::pair("ignore_eos", given.ignore_eos), std::pair("plain", given.plain),
        std::pair("ignore_defaults", given.ignore_defaults)}) {
    if (flag == 0 || flag == 1) continue;
    problems += std::string(name) + " is " + std::to_string(flag) + "; it must be 0 or 1. ";
  }
  if (problems.empty()) return;
  problems.pop_back();
  RefuseUsage(problems, "Initialise the struct with PTGC_REQUEST_INIT.");
}

}  // namespace

void CheckCount(std::size_t count, std::int64_t most, const std::string& name) {
  if (count <= static_cast<std::size_t>(most)) return;
  RefuseUsage("There are " + std::to_string(count) + " " + name + "; at most " +
                  std::to_string(most) + " make sense.",
              "Set the count.");
}

std::vector<TokenId> ReadTokens(const ptgc_token_id* token_ids, std::size_t count,
                                const Generator& generator, const char* name) {
  CheckArray(token_ids, count, name);
  const std::int64_t most = PromptLength(generator.limits());
  if (count <= static_cast<std::size_t>(most)) return {token_ids, token_ids + count};
  throw Error(ErrorCode::kCapacity,
              std::string(name) + " has " + std::to_string(count) +
                  " tokens; this build takes at most " + std::to_string(most) + ".",
              "Shorten it, or build again with a larger --max-length.");
}

ReadRequest ReadRequestOf(const ptgc_request* pointer, const Generator& generator,
                          std::int64_t held) {
  const ptgc_request given =
      ReadSized(pointer, ptgc_request PTGC_REQUEST_INIT, kRequestSize, "ptgc_request");
  CheckRanges(given);
  const SessionLimits& limits = generator.limits();
  Request request;
  request.prompt_ids = ReadTokens(given.prompt_ids, given.num_prompt_ids, generator, "The prompt");
  const std::int64_t room = RoomAfter(held, given.num_prompt_ids, limits);
  const std::int64_t most = std::max<std::int64_t>(1, std::min(kDefaultNewTokens, room));
  request.max_new_tokens =
      static_cast<int>(given.max_new_tokens == 0 ? most : given.max_new_tokens);
  request.eos_token_ids = ReadEndTokens(given, generator.bundle());
  request.plain = given.plain != 0;
  request.deadline_seconds = given.deadline_seconds;
  request.canvas.num_steps = given.num_steps;
  if (given.threshold != -1) request.canvas.threshold = given.threshold;
  const GenerationDefaults defaults =
      given.ignore_defaults != 0 ? GenerationDefaults() : generator.bundle().generation;
  const bool always_draws = generator.bundle().plan.always_draws();
  request.sampling = ReadSampling(given.sampling, defaults, limits, always_draws);
  return {std::move(request), StopSequences(ReadStops(given, generator))};
}

}  // namespace ptgc::capi
