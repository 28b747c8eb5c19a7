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
"""Called with a line of text that says what is being done."""


@dataclass(frozen=True)
class Preparation:
    """What a role's graph is prepared for."""

    plan: DecodePlan
    """The decode plan that it serves."""
    shapes: RoleShapes
    """The sizes that it may run at."""
    precision: str
    """Precision of its weights."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Precision of its `embedding` and `head`, where it differs."""
    calibration: Sequence[Sequence[int]] = ()
    """Token sequences to quantise with; empty if the role cannot read text on its own."""
    lowering: Lowering = Lowering.NATIVE
    """Which operators the graph may use."""
    quantizer: Quantizer = Quantizer.AUTO
    """How weights are to be rounded, as requested."""
    batch: int = 1
    """Sequences that are decoded together."""
    half_cache: bool = False
    """Whether caches may be float16 where the backend computes in float32: every role of the build is quantised."""

    @property
    def rounding(self) -> Quantizer:
        """How weights are rounded, with `auto` resolved."""
        return self.quantizer.resolve(self.precision, has_text=bool(self.calibration))


@dataclass(frozen=True)
class PreparedRole:
    """A role's graph in the form that one backend runs best."""

    model: ir.Model
    """The lowered, quantised graph; weights may still be lazy."""
    role: Role
    """Its ports and states; the graph's file name is set when it is written."""
    engine_options: dict[str, str] = field(default_factory=dict)
    """Settings that the engine is loaded with."""


class Backend(ABC):
    """One engine library. Preparing needs no device; compiling may."""

    name: str
    """The name on the command line and in build.json."""
    devices: Sequence[str]
    """The kinds of device that builds can be made for."""
    precisions: Sequence[str]
    """Weight precisions, the default first."""
    lowerings: Sequence[Lowering] = (Lowering.NATIVE,)
    """Sets of operators that graphs can be prepared with."""
    candidates: Sequence[str] = ()
    """What `auto` tries, in the spelling of `--precision`. Empty if builds do not run here: `auto` is then the
    default."""
    has_parts = False
    """Whether the embedding and the head may have precisions of their own."""
    min_onnxruntime: str | None = None
    """The oldest ONNX Runtime that runs its builds; None if another library runs them."""
    compiles_ahead = False
    """Whether `compile` writes engines to files; otherwise the library compiles a graph when it loads it."""

    def on(self, device: str) -> Backend:
        """The backend for one kind of device.

        Raises:
            BuildError: It makes no builds for that device; the error lists the kinds that it has.
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
        """Whether a round costs more if the cache is larger than its content."""

    @abstractmethod
    def prepare(self, model: ir.Model, role: Role, task: Preparation) -> PreparedRole:
        """Lower and quantise a canonical graph; `model` is consumed."""

    def compile(self, build: Build, folder: Path, options: CompilerOptions, progress: Progress) -> tuple[Engine, ...]:
        """Make the engines of a prepared build; only called if `compiles_ahead`.

        Args:
            build: The prepared build.
            folder: A copy of its files, into which the engines go.
            options: Options of the compiler.
            progress: Called with each step.

        Raises:
            BuildError: The compiler refuses a graph.
        """
        raise NotImplementedError

    def check_compiler(self, options: CompilerOptions) -> None:
        """Refuse options that this backend's compiler does not have.

        Raises:
            BuildError: The error lists the refused options, or the values allowed.
        """
        if options.given():
            raise BuildError(
                f"Backend '{self.name}' compiles no engines ahead of time; given: {', '.join(options.given())}.",
                "Leave it out, or build with --backend tensorrt-rtx.",
            )

    def check_version(self, lowering: Lowering) -> None:  # noqa: B027  # most compile whatever they prepare
        """Refuse an installed compiler that is too old for graphs of this lowering.

        Raises:
            BuildError: The error gives the command that prepares graphs for that version.
        """

    def check(self, device: str, precision: str, lowering: Lowering) -> None:
        """Refuse a device, precision or lowering that this backend does not support.

        Raises:
            BuildError: The error lists what is supported.
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
