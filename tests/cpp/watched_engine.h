// An engine that tells a test of every run, before it.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "engines/engine.h"

namespace ptgc {

// What `before` throws, the engine throws.
class WatchedEngine : public Engine {
 public:
  WatchedEngine(std::unique_ptr<Engine> engine, std::function<void()> before)
      : engine_(std::move(engine)), before_(std::move(before)) {}

  bool HasInput(std::string_view name) const override { return engine_->HasInput(name); }
  std::unique_ptr<Call> Bind(std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) override {
    struct WatchedCall : Call {
      void Start() override {
        (*before)();
        call->Start();
      }
      void Wait() override { call->Wait(); }
      std::unique_ptr<Call> call;           // The real one.
      const std::function<void()>* before;  // Runs first.
    };
    auto call = std::make_unique<WatchedCall>();
    call->call = engine_->Bind(inputs, outputs);
    call->before = &before_;
    return call;
  }

 private:
  std::unique_ptr<Engine> engine_;  // Does the work.
  std::function<void()> before_;    // Hears of every run.
};

}  // namespace ptgc
