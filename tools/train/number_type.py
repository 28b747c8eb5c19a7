"""The type of numbers that training multiplies in."""

import torch


def product_type() -> torch.dtype:
    """bfloat16 where oneDNN multiplies in it (x86-64: from AVX-512 on), else float32, seven times as fast there."""
    return torch.float32 if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2") else torch.bfloat16
