// CapturedBackend: loads engine files onto a GPU. Experimental: only tested with substitutes, on no
// GPU yet.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "engines/engine.h"
#include "engines/gpu/gpu.h"
#include "engines/gpu/gpu_share.h"

namespace ptgc {

// Its engines share one stream and one working block. They may outlive the backend.
class CapturedBackend : public Backend {
 public:
  // `name` is the backend's name in builds.
  CapturedBackend(std::string name, std::unique_ptr<GpuDevice> device,
                  std::unique_ptr<GpuLibrary> library)
      : name_(std::move(name)),
        share_(std::make_shared<GpuShare>(std::move(device), std::move(library))) {}

  std::string Version() const override { return share_->library().Version(); }
  // Throws an engine_stale error for a file of another library or device.
  std::unique_ptr<Engine> Load(const EngineSource& source, const EngineOptions& options) override;

 private:
  [[noreturn]] void Refuse(const std::filesystem::path& path) const;

  std::string name_;                 // The backend's name.
  std::shared_ptr<GpuShare> share_;  // Shared by all engines on the device.
};

// Throws a backend error if there are options, because compiled engine files have none.
void RefuseOptions(const EngineOptions& options);

}  // namespace ptgc
