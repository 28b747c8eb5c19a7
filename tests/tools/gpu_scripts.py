"""The scripts of tools/gpu, imported as modules as when one of them is run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[2] / "tools" / "gpu"
sys.path.insert(0, str(SCRIPTS))
api_calls: Any = importlib.import_module("api_calls")
base: Any = importlib.import_module("parts.base")
cuda_driver: Any = importlib.import_module("cuda_driver")
exactness: Any = importlib.import_module("parts.exactness")
gpu_bundles: Any = importlib.import_module("archives")
parts: Any = importlib.import_module("parts")
round_times: Any = importlib.import_module("round_times")
run: Any = importlib.import_module("run")
task: Any = importlib.import_module("task")
wheels: Any = importlib.import_module("wheels")
write_bundles: Any = importlib.import_module("write_bundles")
