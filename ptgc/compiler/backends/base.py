"""Backend: what the compiler asks of an engine library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from ptgc.compiler.build.compiler_options import CompilerOptions
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.errors import BuildError
from ptgc.spec.bundle import Build
from ptgc.spec.engine import Engine
from ptgc.spec.lowering import Lowering
from ptgc.spec.plan import DecodePlan
from ptgc.spec.role import Role
from ptgc.spec.shapes import RoleShapes

Progress = Callable[[str], None]
"""Called with what is being done, for whoever watches."""


@dataclass(frozen=True)
class Preparation:
    """What a role's graph is prepared for."""

    plan: DecodePlan
    """The loop that it serves."""
    shapes: RoleShapes
    """Sizes that it may run at."""
    precision: str
    """Of its weights."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Of its `embedding` and `head`, where they have another."""
    calibration: Sequence[Sequence[int]] = ()
    """Sequences of tokens to quantise with, where the role can read them alone."""
    lowering: Lowering = Lowering.NATIVE
    """Which operators it may have."""
    quantizer: Quantizer = Quantizer.AUTO
    """How weights are rounded, as asked for."""
    batch: int = 1
    """Sequences that step together."""

    @property
    def rounding(self) -> Quantizer:
        """How weights are rounded."""
        return self.quantizer.resolve(self.precision, has_text=bool(self.calibration))


@dataclass(frozen=True)
class PreparedRole:
    """A role's graph as one backend runs it best."""

    model: ir.Model
    """The lowered, quantised graph; weights may still be lazy."""
    role: Role
    """Its ports and states; the file name is set when it is written."""
    engine_options: dict[str, str] = field(default_factory=dict)
    """Settings that the engine is loaded with."""


class Backend(ABC):
    """One engine library. Preparing needs no device; compiling may."""

    name: str
    """The name on the command line and in build.json."""
    devices: Sequence[str]
    """Kinds of device that builds can be made for."""
    precisions: Sequence[str]
    """Weight precisions, the default first."""
    lowerings: Sequence[Lowering] = (Lowering.NATIVE,)
    """Sets of operators that graphs can be prepared with."""
    candidates: Sequence[str] = ()
    """What `auto` tries, as `--precision` spells it; none where it takes the default, because builds do not run."""
    has_parts = False
    """Whether embedding and head may have a precision of their own."""
    min_onnxruntime: str | None = None
    """The oldest ONNX Runtime that runs its builds; None where another library does."""
    compiles_ahead = False
    """Whether engines are files that `compile` makes; otherwise the library compiles while it loads."""

    def on(self, device: str) -> Backend:
        """The backend as it is on a kind of device.

        Raises:
            BuildError: It makes no builds for that; names what it has.
        """
        if device not in self.devices:
            raise BuildError(
                f"Backend '{self.name}' makes no builds for device '{device}'.",
                f"Choose from: {', '.join(self.devices)}.",
            )
        return self

    @abstractmethod
    def version(self) -> str:
        """Version of the installed library.

        Raises:
            BackendError: It is not installed; says how to install it.
        """

    @abstractmethod
    def pays_for_capacity(self, roles: Iterable[Role], batch_size: int) -> bool:
        """Whether a round costs more in a larger, emptier cache."""

    @abstractmethod
    def prepare(self, model: ir.Model, role: Role, task: Preparation) -> PreparedRole:
        """Lower and quantise a canonical graph; `model` is consumed."""

    def compile(self, build: Build, folder: Path, options: CompilerOptions, progress: Progress) -> tuple[Engine, ...]:
        """Make the engines of a prepared build; only where `compiles_ahead`.

        Args:
            build: The prepared build.
            folder: A copy of its files, into which the engines go.
            options: What the compiler is told.
            progress: Called with each step.

        Raises:
            BuildError: The compiler refuses a graph.
        """
        raise NotImplementedError

    def check_compiler(self, options: CompilerOptions) -> None:
        """Refuse options that this backend's compiler does not have.

        Raises:
            BuildError: Naming them, or those that it takes.
        """
        if options.given():
            raise BuildError(
                f"Backend '{self.name}' compiles no engines ahead of time; given: {', '.join(options.given())}.",
                "Leave it out, or build with --backend tensorrt-rtx.",
            )

    def check_version(self, lowering: Lowering) -> None:  # noqa: B027  # most compile whatever they prepare
        """Refuse an installed compiler that is too old for graphs of this lowering.

        Raises:
            BuildError: With the command that prepares for it.
        """

    def check(self, device: str, precision: str, lowering: Lowering) -> None:
        """Refuse what this backend does not have.

        Raises:
            BuildError: Naming what it has.
        """
        if lowering not in self.lowerings:
            raise BuildError(
                f"Backend '{self.name}' has no lowering '{lowering.value}'.",
                "Leave --lowering out; it is for --backend tensorrt and tensorrt-rtx.",
            )
        if precision not in self.precisions:
            raise BuildError(
                f"Backend '{self.name}' has no precision '{precision}' on device '{device}'.",
                f"Choose from: {', '.join(self.precisions)}, auto.",
            )
