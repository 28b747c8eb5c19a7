"""Distributions of transformers' logits processors, for the C++ tests.

`python -m tests.runtime.transformers_distributions` writes tests/cpp/transformers_distributions.json.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "cpp" / "transformers_distributions.json"
VOCAB_SIZE = 40
PROMPT_IDS = [3, 7, 7, 11]
GENERATED_IDS = [7, 20, 21]

# Keys are the names in SamplingOptions, which C++ and Python share; logit_bias maps token ids.
OPTIONS: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.6},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.7},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.0, "top_p": 0.001},
    {"temperature": 1.7, "top_k": 12, "top_p": 0.8},
    {"temperature": 1.7, "top_k": 12, "top_p": 0.9, "min_p": 0.15},
    {"temperature": 1.0, "repetition_penalty": 1.4},
    {"temperature": 1.0, "logit_bias": {"3": 2.5, "30": -4.0}},
    {
        "temperature": 0.8,
        "top_k": 20,
        "top_p": 0.95,
        "min_p": 0.02,
        "repetition_penalty": 1.2,
        "logit_bias": {"7": 3.0, "20": 1.0},
    },
]


def logits(seed: int) -> list[float]:
    """Different logits of one row, exact in float32: `[VOCAB_SIZE]`."""
    steps = random.Random(seed).sample(range(-160, 160), VOCAB_SIZE)
    return [step / 32 for step in steps]


def distribution(row: list[float], options: dict[str, Any]) -> list[float]:
    """What `generate(do_sample=True)` draws the next token from where the model's logits are `row`, `[VOCAB_SIZE]`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    class Constant(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output: Any = super().forward(*args, **kwargs)
            output.logits = torch.tensor(row).expand_as(output.logits)
            return output

    shape: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model: Any = Constant(
        LlamaConfig(vocab_size=VOCAB_SIZE, eos_token_id=None, pad_token_id=0, bos_token_id=None, **shape)
    )
    values = {name: value for name, value in options.items() if name != "logit_bias"}
    bias = {(int(token),): amount for token, amount in options.get("logit_bias", {}).items()}
    output = model.generate(
        torch.tensor([PROMPT_IDS + GENERATED_IDS]),
        max_new_tokens=1,
        do_sample=True,
        output_scores=True,
        return_dict_in_generate=True,
        sequence_bias=bias or None,
        **{"top_k": 0, **values},
    )
    return [float(value) for value in output.scores[0][0].double().softmax(-1)]


def distributions() -> list[dict[str, Any]]:
    """All cases: options, logits and the resulting distributions of transformers."""
    return [
        {
            "options": options,
            "logits": logits(seed),
            "prompt_ids": PROMPT_IDS,
            "generated_ids": GENERATED_IDS,
            "probabilities": distribution(logits(seed), options),
        }
        for seed, options in enumerate(OPTIONS)
    ]


if __name__ == "__main__":
    PATH.write_text("[\n" + ",\n".join(json.dumps(case) for case in distributions()) + "\n]\n")
