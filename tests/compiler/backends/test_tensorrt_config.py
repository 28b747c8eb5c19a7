"""The configuration of TensorRT's builder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ptgc.compiler.backends.tensorrt_config import check_options, configure
from ptgc.compiler.build.compiler_options import CompilerOptions, HardwareCompatibility
from ptgc.errors import BuildError

LIBRARY = SimpleNamespace(
    MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
    HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS="ampere", SAME_COMPUTE_CAPABILITY="same"),
    BuilderFlag=SimpleNamespace(VERSION_COMPATIBLE="version", REFIT="refit", STRIP_PLAN="strip"),
    ComputeCapability=SimpleNamespace(__members__={"SM86": 86, "SM120": 120, "CURRENT": 0}, SM86=86, SM120=120),
)


class Config:
    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "said":
            object.__setattr__(self, name, value)
        else:
            self.said[name] = value

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.said[pool] = size

    def set_flag(self, flag: str) -> None:
        self.said[flag] = True

    def set_compute_capability(self, capability: int, index: int) -> bool:
        self.said[f"capability {index}"] = capability
        return True


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (CompilerOptions(), {}),
        (CompilerOptions(optimization_level=5), {"builder_optimization_level": 5}),
        (CompilerOptions(workspace=64), {"workspace": 64 << 20}),
        (
            CompilerOptions(hardware_compatibility=HardwareCompatibility.AMPERE_PLUS),
            {"hardware_compatibility_level": "ampere"},
        ),
        (
            CompilerOptions(version_compatible=True, refit=True, strip_weights=True),
            {"version": True, "refit": True, "strip": True},
        ),
        (
            CompilerOptions(("8.6", "12.0")),
            {"num_compute_capabilities": 2, "capability 0": 86, "capability 1": 120},
        ),
    ],
)
def test_only_what_was_asked_for_is_told(options: CompilerOptions, said: dict[str, Any]) -> None:
    config = Config()
    check_options(LIBRARY, options, "tensorrt", has_timing_cache=True)
    configure(LIBRARY, config, options)
    assert config.said == said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (CompilerOptions(optimization_level=6), "goes from 0 to 5"),
        (CompilerOptions(workspace=0), "must be 1 or more"),
        (CompilerOptions(timing_cache=Path("some.cache")), "has no timing cache"),
        (CompilerOptions(strip_weights=True, engines={"target": Path("x")}), "--strip-weights is for"),
        (CompilerOptions(("9.0",)), "does not compile for compute capability 9.0; it takes: 8.6, 12.0"),
    ],
)
def test_what_the_library_does_not_have_is_refused(options: CompilerOptions, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        check_options(LIBRARY, options, "tensorrt-rtx", has_timing_cache=False)


def test_what_is_given_is_named() -> None:
    assert CompilerOptions().given() == []
    options = CompilerOptions(("8.6",), workspace=64, refit=True, timing_cache=Path("c"), engines={"target": Path("e")})
    assert options.given() == ["--compute-capability", "--timing-cache-file", "--engine", "--workspace", "--refit"]
    assert options.settings() == {"--workspace": "64", "--refit": ""}
