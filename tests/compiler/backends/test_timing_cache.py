"""The cache of measured kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptgc.compiler.backends.timing_cache import TimingCache
from ptgc.errors import BuildError


class Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content


class Config:
    """A builder configuration that accepts caches beginning with its device's name, and empty ones."""

    def __init__(self, refuses: str = "set") -> None:
        self._refuses = refuses
        self._cache: Cache | None = None

    def create_timing_cache(self, content: bytes) -> Cache | None:
        damaged = content and not content.startswith(b"GPU")
        return None if damaged and self._refuses == "create" else Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        fits = not cache.content or cache.content.startswith(b"GPU")
        self._cache = Cache(b"GPU" + cache.content) if fits else None
        return fits

    def get_timing_cache(self) -> Cache | None:
        return self._cache


def compiled(cache: TimingCache, config: Config) -> list[str]:
    said: list[str] = []
    cache.attach(config, said.append)
    cache.keep(config)
    return said


def test_it_is_kept_and_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTGC_CACHE", str(tmp_path))
    cache = TimingCache.of(None, "tensorrt", "11.4.0.106")
    assert cache.path == tmp_path / "timing" / "tensorrt-11.4.0.106.cache"
    assert compiled(cache, Config()) == []
    assert cache.path.read_bytes() == b"GPU"
    assert compiled(cache, Config()) == []
    assert cache.path.read_bytes() == b"GPUGPU"


@pytest.mark.parametrize("refuses", ["create", "set"])
def test_a_damaged_one_is_begun_anew_and_a_named_one_never_thrown_away(refuses: str, tmp_path: Path) -> None:
    path = tmp_path / "some.cache"
    path.write_bytes(b"damaged")
    with pytest.raises(BuildError, match="damaged, or of another device or version") as caught:
        compiled(TimingCache.of(path, "tensorrt", "11.4.0.106"), Config(refuses))
    assert "--timing-cache-file" in caught.value.action
    assert path.read_bytes() == b"damaged"
    (said,) = compiled(TimingCache(path, is_named=False), Config(refuses))
    assert "beginning another" in said
    assert path.read_bytes() == b"GPU"


def test_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is no regular file"):
        compiled(TimingCache.of(tmp_path, "tensorrt", "11.4.0.106"), Config())
