"""The random numbers of canvas rounds, as the runtime makes them (runtime/src/sampling/random.h)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STREAM = 4  # RandomStream::kCanvas
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = (1 << 32) - 1


def uniforms(seed: int, positions: NDArray[np.int64], round_number: int) -> NDArray[np.float32]:
    """Two numbers in [0, 1) for each position of a text, multiples of 2^-23: float32 `[..., 2]`.

    Args:
        seed: The text's, of 64 bits.
        positions: Positions in the text.
        round_number: Rounds of this text that filled positions before.
    """
    return np.array([_words(seed, int(one), round_number) for one in positions.flat], np.float32).reshape(
        *positions.shape, 2
    )


def _words(seed: int, position: int, round_number: int) -> tuple[float, float]:
    """Philox4x32-10 (Salmon et al. 2011, doi 10.1145/2063384.2063405): its first two words."""
    counter = (position & _WORD, position >> 32, _STREAM, round_number)
    key = (seed & _WORD, seed >> 32)
    for _ in range(10):
        product0, product1 = _MULTIPLIERS[0] * counter[0], _MULTIPLIERS[1] * counter[2]
        counter = (
            (product1 >> 32) ^ counter[1] ^ key[0],
            product1 & _WORD,
            (product0 >> 32) ^ counter[3] ^ key[1],
            product0 & _WORD,
        )
        key = ((key[0] + _WEYL[0]) & _WORD, (key[1] + _WEYL[1]) & _WORD)
    return (counter[0] >> 9) * 2.0**-23, (counter[1] >> 9) * 2.0**-23
