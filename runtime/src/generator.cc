#include "generator.h"

#include <algorithm>
#include <utility>

#include "clock.h"
#include "error.h"

namespace ptgc {
namespace {

int NumDraftTokens(const Bundle& bundle, int wanted) {
  const int most = bundle.plan.drafter.num_draft_tokens;
  if (wanted <= most) return wanted < 0 ? most : wanted;
  throw Error(ErrorCode::kUsage,
              "num_draft_tokens is " + std::to_string(wanted) + "; this bundle was exported for " +
                  std::to_string(most) + ".",
              "Choose at most that, or export again with more.");
}

}  // namespace

void RowLease::Release() {
  if (generator_ != nullptr) generator_->taken_[static_cast<std::size_t>(row_)].store(false);
  generator_ = nullptr;
}

RowLease::RowLease(RowLease&& other) noexcept
    : generator_(std::exchange(other.generator_, nullptr)), row_(other.row_) {}

Generator::Entry::Entry(Generator& generator)
    : generator_(generator), lock_(generator.mutex_, std::defer_lock) {
  if (generator.owner_.load() == std::this_thread::get_id()) {
    throw Error(ErrorCode::kUsage, "A generator was called from within its own callback.",
                "Return from the callback first.");
  }
  lock_.lock();
  generator.owner_.store(std::this_thread::get_id());
  if (generator.target_ != nullptr) return;
  generator.owner_.store(std::thread::id());
  throw Error(ErrorCode::kUsage, "This generator is closed.", "Load the build again.");
}

Generator::Entry::~Entry() { generator_.owner_.store(std::thread::id()); }

std::unique_ptr<Generator> Generator::Open(const std::filesystem::path& build_directory,
                                           const GeneratorOptions& options) {
  const Clock::time_point start = Clock::now();
  Bundle bundle = ReadBundle(build_directory);
  const Role& target = bundle.roles.at("target");
  const std::unique_ptr<Backend> backend = MakeBackend(bundle.backend, options.library);
  std::unique_ptr<Engine> engine =
      backend->Load(target.graph, {options.num_threads, target.engine_options});
  auto generator = std::make_unique<Generator>(std::move(bundle), std::move(engine), options);
  generator->library_version_ = backend->Version();
  generator->load_seconds_ = SecondsSince(start);
  return generator;
}

Generator::Generator(Bundle bundle, std::unique_ptr<Engine> engine, const GeneratorOptions& options)
    : bundle_(std::move(bundle)),
      limits_{bundle_.shapes.max_length, bundle_.model.context_length, bundle_.model.vocab_size} {
  const ShapePlan& shapes = bundle_.shapes;
  const int num_draft_tokens = NumDraftTokens(bundle_, options.num_draft_tokens);
  std::vector<Session*> rows;
  for (int row = 0; row < shapes.batch; ++row) {
    sessions_.push_back(std::make_unique<Session>(row, limits_, bundle_.plan.drafter));
    rows.push_back(sessions_.back().get());
  }
  taken_ = std::make_unique<std::atomic<bool>[]>(sessions_.size());
  target_ = std::make_unique<Target>(std::move(engine), bundle_.roles.at("target"), shapes);
  DraftLength draft_length(options.draft_length, CostCurve(shapes.widths, options.cost_curve),
                           shapes.verify_width);
  loop_ = std::make_unique<SpeculativeLoop>(*target_, bundle_.plan, shapes, std::move(draft_length),
                                            num_draft_tokens, rows);
}

std::vector<Result> Generator::Generate(std::span<const Request> requests, const Hooks& hooks) {
  const Clock::time_point called = Clock::now();
  CheckRequests(requests);
  if (requests.empty()) return {};
  const Entry entry(*this);
  TidyRows();
  const std::vector<RowLease> rows = TakeRows(requests.size());
  std::vector<Session*> lanes;
  for (const RowLease& row : rows) {
    lanes.push_back(sessions_[static_cast<std::size_t>(row.row())].get());
  }
  std::vector<Generation> generations;
  for (const Request& request : requests) generations.emplace_back(request, called);
  Run(Schedule(generations, lanes, /*fresh=*/true), hooks);
  std::vector<Result> results;
  for (Generation& generation : generations) {
    results.push_back(generation.TakeResult(load_seconds_));
  }
  return results;
}

void Generator::Run(Schedule schedule, const Hooks& hooks) {
  while (true) {
    const std::span<Turn> turns = schedule.NextTurns();
    if (turns.empty()) return;
    schedule.Record(loop_->Round(turns), hooks.on_tokens);
    if (hooks.poll) hooks.poll();
  }
}

std::vector<double> Generator::Measure(int num_tokens, int num_logits, int past_length,
                                       int repeats) {
  const Entry entry(*this);
  const ShapePlan& shapes = bundle_.shapes;
  const bool known = std::binary_search(shapes.widths.begin(), shapes.widths.end(), num_tokens) &&
                     (num_logits == 1 || num_logits == shapes.LogitsFor(num_tokens));
  if (!known || past_length < 0 || past_length > shapes.max_length || repeats < 0) {
    throw Error(ErrorCode::kUsage,
                "This build has no round of " + std::to_string(num_tokens) + " tokens and " +
                    std::to_string(num_logits) + " logits after " + std::to_string(past_length) +
                    " tokens.",
                "Measure the widths of its shape plan.");
  }
  TidyRows();
  const std::vector<RowLease> rows = TakeRows(sessions_.size());
  if (rows.size() < sessions_.size()) {
    throw Error(ErrorCode::kBusy, "Sessions are open, whose text measuring would write over.",
                "Close them first.");
  }
  target_->kv_cache().Grow(past_length + num_tokens, 0);
  const std::vector<TokenId> tokens(static_cast<std::size_t>(num_tokens), 0);
  RowInput input;
  input.tokens = tokens;
  input.write_index = past_length;
  const std::vector<RowInput> inputs(sessions_.size(), input);
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    target_->Forward(inputs, num_tokens, num_logits);
    seconds.push_back(target_->engine_seconds());
  }
  return seconds;
}

void Generator::Close() {
  const Entry entry(*this);
  loop_.reset();
  target_.reset();
}

int Generator::free_rows() const {
  int free = 0;
  for (std::size_t row = 0; row < sessions_.size(); ++row) free += taken_[row].load() ? 0 : 1;
  return free;
}

std::vector<RowLease> Generator::TakeRows(std::size_t count) {
  std::vector<RowLease> rows;
  rows.reserve(std::min(count, sessions_.size()));
  for (std::size_t row = 0; row < sessions_.size() && rows.size() < count; ++row) {
    if (!taken_[row].exchange(true)) rows.emplace_back(*this, static_cast<int>(row));
  }
  if (rows.empty()) {
    throw Error(ErrorCode::kBusy,
                "All " + std::to_string(sessions_.size()) + " rows of this build are taken.",
                "Close a session, or build with a larger --batch-size.");
  }
  return rows;
}

RowLease Generator::TakeRow() { return std::move(TakeRows(1).front()); }

void Generator::CheckRequests(std::span<const Request> requests) const {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::vector<TokenId>& prompt = requests[i].prompt_ids;
    try {
      limits_.CheckPrompt(0, prompt);
      limits_.CheckRoom(static_cast<int>(prompt.size()), requests[i].max_new_tokens);
    } catch (const Error& error) {
      if (requests.size() == 1) throw;
      throw Error(error.code(), "Request " + std::to_string(i) + ": " + error.message(),
                  error.action());
    }
  }
}

void Generator::TidyRows() {
  bool empty = true;
  for (std::size_t row = 0; row < sessions_.size(); ++row) {
    if (!taken_[row].load()) sessions_[row]->Reset();
    empty = empty && sessions_[row]->length() == 0;
  }
  if (empty) target_->kv_cache().Reset();
}

}  // namespace ptgc
