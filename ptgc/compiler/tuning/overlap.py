"""Measures whether drafting while the target verifies pays on this device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ptgc.runtime.generator import Generator
from ptgc.runtime.load_options import LoadOptions
from ptgc.spec.bundle import Build
from ptgc.texts.prompt_set import Prompt

_WORTH_IT = 0.97  # overlap is chosen if it takes less than this share of the time


def overlap_pays(
    build: Build, num_threads: int, loading: LoadOptions, prompts: Sequence[Prompt], max_new_tokens: int
) -> bool:
    """Whether texts are written faster with overlap, by the decoding time of some prompts, measured in turns.

    Costs of rounds do not tell: they are measured while no other engine runs.

    Args:
        build: The build, whose drafter can overlap.
        num_threads: Threads of each engine.
        loading: Load options, which say how it drafts.
        prompts: The prompts.
        max_new_tokens: Most new tokens of each text.
    """
    generators = {
        overlap: Generator(
            build.path.parent.parent,
            build=build.manifest.id,
            num_threads=num_threads,
            verify=False,
            **vars(replace(loading, overlap=overlap)),
        )
        for overlap in (False, True)
    }
    seconds = {False: 0.0, True: 0.0}
    for generator in generators.values():
        generator.generate(prompts[0].ids, max_new_tokens=4)
    for prompt in prompts:
        for overlap, generator in generators.items():
            result = generator.generate(prompt.ids, max_new_tokens=max_new_tokens)
            seconds[overlap] += result.statistics.decode_seconds
    for generator in generators.values():
        generator.close()
    return seconds[True] < _WORTH_IT * seconds[False]
