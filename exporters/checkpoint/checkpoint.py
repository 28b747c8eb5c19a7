"""Opening the checkpoint of a language model, without ever unpickling anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint import gguf_checkpoint, gguf_tokenizer, quantized_checkpoint
from ptgc.exporters.checkpoint.config import CONFIG_FILE, GIVE, foreign_errors, read_config, read_settings
from ptgc.exporters.checkpoint.diffusion_formats import DiffusionFormat, diffusion_format
from ptgc.exporters.checkpoint.gguf_file import read_gguf_file
from ptgc.exporters.checkpoint.hub_snapshot import download_snapshot, is_hub_id
from ptgc.exporters.checkpoint.huggingface_directory import frozen, quiet_transformers
from ptgc.exporters.checkpoint.marian_tokenizer import is_marian, load_marian_tokenizer
from ptgc.exporters.checkpoint.packed import PackedFormat, packed_format
from ptgc.exporters.checkpoint.safetensors_files import find_safetensors, stored_dtype
from ptgc.exporters.checkpoint.task import Task, task_of
from ptgc.exporters.checkpoint.tensor_fit import check_fit, unused_tensors
from ptgc.spec.bundle_files import sha256

_VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_DESCRIBING_FILES = (
    CONFIG_FILE,
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "source.spm",
    "target.spm",
    *quantized_checkpoint.SETTINGS_FILES,
    *_VOCABULARY_FILES,
)
_ADAPTER_SETTINGS = "adapter_config.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".aria2")
_CONVERT_PICKLES = (
    "Unpickling can run code, so convert the weights once, where you trust them: "
    "transformers.AutoModelForCausalLM.from_pretrained(DIR, weights_only=True).save_pretrained(NEW_DIR)"
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all present and whose architecture can be loaded.

    Attributes:
        source: Path or hub id as the user gave it.
        directory: Where the files are.
        config: The transformers configuration.
        weight_files: The safetensors files, or the one GGUF file.
        weight_bytes: Bytes of all weight files.
        revision: Commit that the hub resolved; None for local files.
        gguf_file: The GGUF file; None for safetensors.
        trust_remote_code: Whether code that comes with the checkpoint may run.
        task: What the model is for.
        packed: How the weights of a safetensors checkpoint are quantised; None if they are not.
        read_apart: Beginnings of names of tensors that are not the model's, but another role's.
        diffusion: The format of a diffusion language model; None for other models.
    """

    source: str
    directory: Path
    config: PreTrainedConfig
    weight_files: tuple[Path, ...]
    weight_bytes: int
    revision: str | None = None
    gguf_file: Path | None = None
    trust_remote_code: bool = False
    task: Task = Task.CAUSAL_LM
    packed: PackedFormat | None = None
    read_apart: tuple[str, ...] = ()
    diffusion: DiffusionFormat | None = None

    @property
    def kind(self) -> str:
        """What the model is, for messages."""
        attention = self.diffusion.attention if self.diffusion is not None else None
        return self.task.value if attention is None else f"{self.task.value} with {attention.value} attention"

    @property
    def dtype(self) -> torch.dtype:
        """Type that keeps every weight exactly; float32 if the weights are quantised."""
        if self.packed is not None:
            return torch.float32
        if self.gguf_file is not None:
            return gguf_checkpoint.stored_dtype(read_gguf_file(self.gguf_file))
        named = self.config.dtype
        return stored_dtype(self.weight_files) or (named if isinstance(named, torch.dtype) else torch.float32)

    @property
    def has_own_code(self) -> bool:
        """Whether the model's code came with the checkpoint."""
        return not type(self.config).__module__.startswith("transformers.")

    def load_model(
        self, dtype: torch.dtype | None = None, note: Callable[[str], None] = lambda _: None
    ) -> PreTrainedModel:
        """Load the model for inference: evaluation mode, eager attention, no gradients.

        Args:
            dtype: Type of the weights; by default the narrowest that keeps every value.
            note: Called with remarks about the loaded weights.

        Raises:
            CheckpointError: Tensors are missing or do not fit the configuration.
        """
        if self.gguf_file is not None:
            return gguf_checkpoint.load_model(read_gguf_file(self.gguf_file), self.config, dtype)
        if self.packed is not None:
            skeleton = self._skeleton()
            return quantized_checkpoint.load_model(self.weight_files, self.packed, skeleton, dtype or self.dtype)
        model, report = self._load_directory(dtype or self.dtype)
        if dtype is None and len({one.dtype for one in model.parameters() if one.is_floating_point()}) > 1:
            # transformers keeps some modules of some architectures in float32; graphs have one type.
            model, report = self._load_directory(torch.float32)
        may_have_more = self.diffusion is None  # the class of a diffusion format was chosen for what it must have
        check_fit(f"the checkpoint '{self.source}'", type(model).__name__, report, allow_unexpected=may_have_more)
        own = [name for name in report["unexpected_keys"] if not str(name).startswith(self.read_apart)]
        unused = unused_tensors({"unexpected_keys": own})
        if unused:
            note(unused)
        return frozen(model)

    def _load_directory(self, dtype: torch.dtype) -> tuple[PreTrainedModel, dict[str, Any]]:
        format_ = self.diffusion
        model_class: Any = self.task.auto_class if format_ is None else format_.model_class
        with quiet_transformers(), foreign_errors(self.source):
            loaded: tuple[PreTrainedModel, dict[str, Any]] = model_class.from_pretrained(
                self.directory,
                config=None if format_ is None else self.config,
                key_mapping=None if format_ is None else dict(format_.renamed) or None,
                dtype=dtype,
                attn_implementation="eager",
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=self.trust_remote_code,
                ignore_mismatched_sizes=True,  # check_fit reports them all
                output_loading_info=True,
            )
        return loaded

    def _skeleton(self) -> PreTrainedModel:
        """The model without weights."""
        with quiet_transformers(), foreign_errors(self.source), torch.device("meta"):
            model: PreTrainedModel = self.task.auto_class.from_config(
                self.config, trust_remote_code=self.trust_remote_code
            )
        return model

    def load_tokenizer(self, note: Callable[[str], None] = lambda _: None) -> PreTrainedTokenizerBase | None:
        """Load the tokenizer; None if the checkpoint has none that a bundle can contain.

        Args:
            note: Called with remarks about it.

        Raises:
            CheckpointError: The tokenizer's files are damaged or need something that is not installed.
        """
        if self.gguf_file is not None:
            return gguf_tokenizer.load_tokenizer(read_gguf_file(self.gguf_file), note)
        if not any((self.directory / name).is_file() for name in _VOCABULARY_FILES):
            return None
        if is_marian(self.directory):
            return load_marian_tokenizer(self.directory, note)
        with quiet_transformers(), foreign_errors(self.source):
            tokenizer = self._tokenizer()
        if not getattr(tokenizer, "is_fast", False):
            name = type(tokenizer).__name__
            note(f"{name} has no fast form (tokenizer.json), which the runtime reads; the bundle takes token ids only.")
            return None
        return tokenizer

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        named: dict[str, Any] = {"local_files_only": True, "trust_remote_code": self.trust_remote_code}
        if self.diffusion is not None:  # transformers does not know its model type
            named["config"] = self.config
        own = None if self.diffusion is None else self.diffusion.tokenizer_class
        loaded: PreTrainedTokenizerBase = (own or AutoTokenizer).from_pretrained(self.directory, **named)
        return loaded

    def hashes(self) -> dict[str, str]:
        """Return file name -> sha256 of the weights and of every file that describes them."""
        files = list(self.weight_files)
        if self.gguf_file is None:
            files += [self.directory / name for name in _DESCRIBING_FILES]
        if self.trust_remote_code:
            files += self.directory.glob("*.py")
        found = {file.name: sha256(file) for file in sorted(set(files)) if file.is_file()}
        templates = sorted(self.directory.glob("additional_chat_templates/*.jinja")) if self.gguf_file is None else []
        return found | {f"{file.parent.name}/{file.name}": sha256(file) for file in templates}


def open_checkpoint(model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> Checkpoint:
    """Find a checkpoint, check that it is complete, and read its configuration but not its weights.

    Args:
        model: A directory with config.json and safetensors, a .gguf file (or its directory), or a hub id.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Allow code that comes with the checkpoint to run.

    Raises:
        CheckpointError: It is missing, incomplete, pickled, of a kind that ptgc does not export, or would run code.
    """
    source = str(model)
    try:
        path, commit = locate(model, revision, trust_remote_code)
        if path.is_dir():
            return _open_directory(source, path, commit, trust_remote_code)
        return _open_file(source, path)
    except OSError as error:
        message = f"Cannot read the checkpoint '{source}': {error}."
        raise CheckpointError(message, "Check its permissions.") from error


def locate(
    model: str | Path, revision: str | None, trust_remote_code: bool, also: Sequence[str] = ()
) -> tuple[Path, str | None]:
    """Return the directory of the files, downloaded if necessary, and the commit if they come from the hub.

    Args:
        model: A path, or a hub id.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether to download code.
        also: Files to download besides those of a language model.
    """
    try:
        path = Path(model).expanduser()
    except RuntimeError:  # "~name" with an unknown user is an ordinary name
        path = Path(model)
    if not path.exists():
        if isinstance(model, str) and is_hub_id(model):
            return download_snapshot(model, revision, with_code=trust_remote_code, also=also)
        raise CheckpointError(f"Cannot open the checkpoint '{model}': no such path.", GIVE)
    if revision is not None:
        raise CheckpointError(
            f"Cannot open '{model}' at revision '{revision}': it is a local path, which has no revisions.",
            "Leave the revision out.",
        )
    return path, None


def _open_directory(source: str, directory: Path, commit: str | None, trust_remote_code: bool) -> Checkpoint:
    _refuse_unfinished(directory)
    _refuse_adapter(directory)
    files = find_safetensors(directory)
    gguf_files = sorted(directory.glob("*.gguf"))
    if not files and gguf_files:
        return replace(_open_file(source, _only(directory, gguf_files)), revision=commit)
    settings = read_settings(directory)
    if not files:
        raise _without_weights(directory)
    quantization = quantized_checkpoint.quantization_settings(directory, settings)
    packed = packed_format(source, quantization) if quantization else None
    size = sum(file.stat().st_size for file in files)
    diffusion = diffusion_format(source, settings)
    if diffusion is not None:
        if packed is not None and diffusion.renamed:
            raise _with_packed_names(source, packed, settings)
        return Checkpoint(
            source,
            directory,
            diffusion.config(source, settings),
            files,
            size,
            commit,
            task=Task.DIFFUSION_LM,
            packed=packed,
            diffusion=diffusion,
        )
    config = read_config(source, directory, settings, trust_remote_code=trust_remote_code)
    return Checkpoint(
        source,
        directory,
        config,
        files,
        size,
        commit,
        trust_remote_code=trust_remote_code,
        task=task_of(source, settings, trust_remote_code=trust_remote_code),
        packed=packed,
    )


def _with_packed_names(source: str, packed: PackedFormat, settings: dict[str, Any]) -> CheckpointError:
    return CheckpointError(
        f"Cannot open the checkpoint '{source}': its weights are quantised by {packed.method}, which is not read under "
        f"the names that model type {settings['model_type']!r} gives them.",
        "Give the original checkpoint, and choose a precision with: ptgc build --precision",
    )


def _open_file(source: str, file: Path) -> Checkpoint:
    if file.suffix != ".gguf":
        raise CheckpointError(
            f"Cannot open '{file}': it is a single file, and only .gguf files hold a whole model.",
            _CONVERT_PICKLES if file.suffix in _PICKLES else GIVE,
        )
    config = gguf_checkpoint.read_config(read_gguf_file(file))
    return Checkpoint(source, file.parent, config, (file,), file.stat().st_size, gguf_file=file)


def _refuse_unfinished(directory: Path) -> None:
    names = sorted(entry.name for entry in directory.iterdir())
    if not names:
        raise CheckpointError(f"Cannot open the checkpoint '{directory}': the directory is empty.", GIVE)
    unfinished = [name for name in names if name.endswith(_UNFINISHED)]
    if unfinished:
        listed = ", ".join(unfinished)
        raise CheckpointError(
            f"Cannot open the checkpoint '{directory}': it has unfinished downloads: {listed}.",
            "Let the download finish, or start it again; remove these files if they are left over.",
        )


def _refuse_adapter(directory: Path) -> None:
    """The weights may already contain an adapter that is beside them, or not; transformers adds it if peft is there."""
    if not (directory / _ADAPTER_SETTINGS).is_file():
        return
    raise CheckpointError(
        f"Cannot open the checkpoint '{directory}': it has an adapter ({_ADAPTER_SETTINGS}), and nothing says "
        "whether the weights contain it.",
        "Merge the adapter into its base model with peft's merge_and_unload and give that directory; if it is left "
        f"over from a merge, remove {_ADAPTER_SETTINGS}.",
    )


def _only(directory: Path, files: list[Path]) -> Path:
    if len(files) > 1:
        raise CheckpointError(
            f"Cannot open the checkpoint '{directory}': it has {len(files)} GGUF files: "
            f"{', '.join(file.name for file in files[:8])}.",
            "Give one of these files; merge the parts of one model first, with llama-gguf-split --merge.",
        )
    return files[0]


def _without_weights(directory: Path) -> CheckpointError:
    names = sorted(entry.name for entry in directory.iterdir())
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        return CheckpointError(
            f"Cannot open the checkpoint '{directory}': it has only pickled weights "
            f"({', '.join(pickles[:4])}), and ptgc does not unpickle.",
            _CONVERT_PICKLES,
        )
    others = [name for name in names if name.endswith(".safetensors")]
    return CheckpointError(
        f"Cannot open the checkpoint '{directory}': it has no model.safetensors and no "
        f"model.safetensors.index.json, but {', '.join(others[:4]) or 'no other weights either'}.",
        GIVE,
    )
