#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sampling/sampler.h"

namespace ptgc {
namespace {

using nlohmann::json;

// Written by tests/runtime/transformers_distributions.py, which a Python test keeps true.
json Cases() {
  const auto folder = std::filesystem::path(__FILE__).parent_path();
  return json::parse(std::ifstream(folder / "transformers_distributions.json"));
}

SamplingOptions Read(const json& values) {
  SamplingOptions options;
  options.temperature = values.at("temperature");
  options.top_k = values.value("top_k", options.top_k);
  options.top_p = values.value("top_p", options.top_p);
  options.min_p = values.value("min_p", options.min_p);
  options.repetition_penalty = values.value("repetition_penalty", options.repetition_penalty);
  const json biases = values.value("logit_bias", json::object());
  for (const auto& [token, bias] : biases.items()) {
    options.logit_bias.push_back({std::stoll(token), bias});
  }
  return options;
}

TEST(SamplerDistribution, IsThatOfTransformers) {
  const json cases = Cases();
  ASSERT_GE(cases.size(), 10U);
  for (const json& entry : cases) {
    const std::vector<float> logits = entry.at("logits");
    const std::vector<double> expected = entry.at("probabilities");
    const std::int64_t size = static_cast<std::int64_t>(logits.size());
    TokenCounts counts(size, 100);
    counts.AppendPrompt(entry.at("prompt_ids").get<std::vector<TokenId>>());
    for (const json& id : entry.at("generated_ids")) counts.Push(id);
    Sampler sampler(size);
    ASSERT_TRUE(
        sampler.Read({logits.data(), DType::kFloat32, size}, Read(entry.at("options")), &counts));
    for (std::int64_t id = 0; id < size; ++id) {
      const double probability = expected[static_cast<std::size_t>(id)];
      EXPECT_NEAR(sampler.Probability(id), probability, 1e-5 * probability) << entry.dump();
    }
  }
}

}  // namespace
}  // namespace ptgc
