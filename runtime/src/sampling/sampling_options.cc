#include "sampling/sampling_options.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>

#include "base/error.h"

namespace ptgc {
namespace {

// The problems of a set of options, one sentence each.
class Problems {
 public:
  void Require(bool holds, std::string_view name, double value, std::string_view allowed) {
    if (holds) return;
    std::ostringstream text;
    text << name << " is " << value << "; it must be " << allowed << ".";
    Add(text.str());
  }
  void Add(const std::string& problem) { text_ += (text_.empty() ? "" : " ") + problem; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;  // All sentences.
};

void CheckBias(const std::vector<LogitBias>& logit_bias, std::int64_t vocab_size,
               Problems& problems) {
  std::vector<TokenId> ids;
  for (const LogitBias& entry : logit_bias) {
    const std::string token = std::to_string(entry.token_id);
    if (entry.token_id < 0 || entry.token_id >= vocab_size) {
      problems.Add("logit_bias names token " + token + ", which is not in the vocabulary of " +
                   std::to_string(vocab_size) + " entries.");
    }
    problems.Require(entry.bias < std::numeric_limits<float>::infinity(),
                     "logit_bias of token " + token, entry.bias,
                     "a finite number, or minus infinity to exclude the token");
    ids.push_back(entry.token_id);
  }
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice == ids.end()) return;
  problems.Add("logit_bias names token " + std::to_string(*twice) + " more than once.");
}

}  // namespace

void SamplingOptions::Check(std::int64_t vocab_size) const {
  const auto within = [](double value, double low, double high) {
    return value >= low && value <= high;  // False for NaN.
  };
  Problems problems;
  problems.Require(temperature == 0 || within(temperature, kMinTemperature, kMaxTemperature),
                   "temperature", temperature, "0 for greedy decoding, or from 0.001 to 1000");
  problems.Require(top_k >= 0, "top_k", static_cast<double>(top_k),
                   "0 to keep all tokens, or how many to keep");
  problems.Require(within(top_p, std::numeric_limits<double>::min(), 1), "top_p", top_p,
                   "above 0 and at most 1");
  problems.Require(within(min_p, 0, 1), "min_p", min_p, "from 0 to 1");
  problems.Require(within(repetition_penalty, 0.01, 100), "repetition_penalty", repetition_penalty,
                   "from 0.01 to 100; 1 is none");
  problems.Require(within(presence_penalty, -2, 2), "presence_penalty", presence_penalty,
                   "from -2 to 2; 0 is none");
  problems.Require(within(frequency_penalty, -2, 2), "frequency_penalty", frequency_penalty,
                   "from -2 to 2; 0 is none");
  CheckBias(logit_bias, vocab_size, problems);
  if (problems.text().empty()) return;
  throw Error(ErrorCode::kUsage, problems.text(), "Correct the options named above.");
}

}  // namespace ptgc
