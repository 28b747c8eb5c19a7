"""TimingCache: kernel timings of this device, kept so that the compiler measures each kernel once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptgc.compiler.backends.base import Progress
from ptgc.errors import BuildError
from ptgc.runtime.measured import cache_directory
from ptgc.spec.json_file import MissingError, UnreadableError, read_regular
from ptgc.spec.staging import write_whole


@dataclass(frozen=True)
class TimingCache:
    """A file of kernel timings.

    TensorRT checks that the file is of its device and version. TensorRT-RTX measures nothing and has no such file.
    """

    path: Path
    """The file; it need not exist."""
    is_named: bool
    """Whether the user named it; such a file is never discarded."""

    @staticmethod
    def of(named: Path | None, backend: str, version: str) -> TimingCache:
        """The named file, or the library's own file in the user's cache directory."""
        if named is not None:
            return TimingCache(named, is_named=True)
        return TimingCache(cache_directory() / "timing" / f"{backend}-{version}.cache", is_named=False)

    def attach(self, config: Any, progress: Progress) -> None:
        """Make the compiler use the cache and add to it.

        Raises:
            BuildError: The user named the file, and it is damaged or of another device or version.
        """
        try:
            content = read_regular(self.path, most=None)
        except MissingError:
            content = b""
        except UnreadableError as error:
            raise BuildError(f"The timing cache {self.path} {error}.", "Name another --timing-cache-file.") from error
        if self._set(config, content):
            return
        if self.is_named:
            raise BuildError(
                f"The timing cache {self.path} is damaged, or of another device or version of the library.",
                "Remove it, or name another --timing-cache-file.",
            )
        progress(f"The timing cache {self.path} is damaged or of another device: beginning another")
        self._set(config, b"")

    @staticmethod
    def _set(config: Any, content: bytes) -> bool:
        cache = config.create_timing_cache(content)
        return cache is not None and bool(config.set_timing_cache(cache, False))

    def keep(self, config: Any) -> None:
        """Write the timings that the compiler has now."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        write_whole(self.path, bytes(cache.serialize()))
