// CapturedBackend: loads engine files onto a GPU. Experimental: substitutes run it in the tests,
// and no GPU has yet.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "engines/engine.h"
#include "engines/gpu/gpu.h"
#include "engines/gpu/gpu_share.h"

namespace ptgc {

// Its engines share one stream and one working block, and outlive it.
class CapturedBackend : public Backend {
 public:
  // `name` is the backend's, as builds spell it.
  CapturedBackend(std::string name, std::unique_ptr<GpuDevice> device,
                  std::unique_ptr<GpuLibrary> library)
      : name_(std::move(name)),
        share_(std::make_shared<GpuShare>(std::move(device), std::move(library))) {}

  std::string Version() const override { return share_->library().Version(); }
  // Throws an engine_stale error for a file of another library or device.
  std::unique_ptr<Engine> Load(const EngineSource& source, const EngineOptions& options) override;

 private:
  [[noreturn]] void Refuse(const std::filesystem::path& path) const;

  std::string name_;                 // The backend's.
  std::shared_ptr<GpuShare> share_;  // Of the device.
};

// Throws a backend error where there are options: what a vendor's compiler made has none.
void RefuseOptions(const EngineOptions& options);

}  // namespace ptgc
