"""Configures TensorRT's builder: compute capabilities, and options under trtexec's names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ptgc.compiler.build.compiler_options import CompilerOptions, HardwareCompatibility
from ptgc.errors import BuildError
from ptgc.spec.lowering import Lowering

_LEVELS = range(6)
_MEMBERS = {
    HardwareCompatibility.AMPERE_PLUS: "AMPERE_PLUS",
    HardwareCompatibility.SAME_COMPUTE_CAPABILITY: "SAME_COMPUTE_CAPABILITY",
}
_FLAGS = {
    "version_compatible": "VERSION_COMPATIBLE",
    "refit": "REFIT",
    "strip_weights": "STRIP_PLAN",
}


def check_options(library: Any, options: CompilerOptions, backend: str, *, has_timing_cache: bool) -> None:
    """Refuse options that this library does not support; the error names every problem.

    Raises:
        BuildError: The error lists what it takes.
    """
    capabilities = options.compute_capabilities
    refuse_unknown(capabilities, known_capabilities(library) if capabilities else (), backend)
    problems = []
    if options.optimization_level is not None and options.optimization_level not in _LEVELS:
        problems.append(f"--builder-optimization-level is {options.optimization_level}; it goes from 0 to 5.")
    if options.workspace is not None and options.workspace < 1:
        problems.append(f"--workspace is {options.workspace} MiB; it must be 1 or more.")
    if options.timing_cache is not None and not has_timing_cache:
        problems.append(f"{backend} measures no kernels while it compiles and has no timing cache.")
    if options.strip_weights and options.engines:
        problems.append("--strip-weights is for engines that are compiled here, --engine for those that are not.")
    if problems:
        raise BuildError("\n".join(problems), "Leave them out, or give numbers in range.")


def check_native(backend: str, version: str, since: tuple[int, int], lowering: Lowering) -> None:
    """Refuse a version that lacks operators of the native lowering.

    Args:
        backend: The backend's name, for the message.
        version: As the library spells it, such as `10.3.0.26`.
        since: The first version that takes native graphs.
        lowering: The lowering that the graphs were prepared with.

    Raises:
        BuildError: The error gives the command that prepares graphs for this version.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if lowering is not Lowering.NATIVE or found is None or (int(found[1]), int(found[2])) >= since:
        return
    first = ".".join(str(part) for part in since)
    raise BuildError(
        f"{backend} {version} lacks operators of this build (attention, cache updates, norms, rotary embeddings); "
        f"{backend} {first} is the first that has them.",
        f"Prepare it for older versions: ptgc build BUNDLE --backend {backend} --lowering {Lowering.PORTABLE.value}",
    )


def configure(library: Any, config: Any, options: CompilerOptions) -> None:
    """Set a builder's configuration from the options.

    Args:
        library: The module `tensorrt` or `tensorrt_rtx`.
        config: The builder's configuration.
        options: Options that passed `check_options`.
    """
    if options.compute_capabilities:
        config.num_compute_capabilities = len(options.compute_capabilities)
        for index, capability in enumerate(options.compute_capabilities):
            accepted = config.set_compute_capability(getattr(library.ComputeCapability, _enumerated(capability)), index)
            assert accepted, "known_capabilities names what is accepted"
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.workspace is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if options.hardware_compatibility in _MEMBERS:
        member = _MEMBERS[options.hardware_compatibility]
        config.hardware_compatibility_level = getattr(library.HardwareCompatibilityLevel, member)
    for name, flag in _FLAGS.items():
        if getattr(options, name):
            config.set_flag(getattr(library.BuilderFlag, flag))


def _enumerated(capability: str) -> str:
    """`8.6` as the compiler's enumeration spells it."""
    return "SM" + capability.replace(".", "")


def known_capabilities(library: Any) -> list[str]:
    """The compute capabilities that this compiler takes, ascending; empty if it compiles for the local GPU only."""
    members = getattr(getattr(library, "ComputeCapability", None), "__members__", {})
    numbers = sorted(int(name[2:]) for name in members if name.startswith("SM"))
    return [f"{number // 10}.{number % 10}" for number in numbers]


def refuse_unknown(capabilities: Sequence[str], known: Sequence[str], backend: str) -> None:
    """Refuse compute capabilities that the compiler does not take.

    Raises:
        BuildError: The error lists what it takes.
    """
    unknown = [capability for capability in capabilities if capability not in known]
    if not unknown:
        return
    if not known:
        raise BuildError(
            f"Backend '{backend}' compiles for the GPU of the machine it runs on; it takes no compute capability.",
            "Leave --compute-capability out, or compile ahead of time with --backend tensorrt-rtx.",
        )
    raise BuildError(
        f"{backend} does not compile for compute capability {', '.join(unknown)}; it takes: {', '.join(known)}.",
        "Jetson boards (8.7, 11.0) and data-centre GPUs (9.0, 10.x) are for --backend tensorrt, on such a device.",
    )
