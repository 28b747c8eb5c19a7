"""The ports of a traced graph: names, dtypes and symbolic shapes, spelled here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from ptgc.spec.fields import Count, Range
from ptgc.spec.limits import MAX_VOCAB_SIZE

OPSET = 24
IR_VERSION = 10

BATCH = "batch"
NUM_TOKENS = "num_tokens"
KV_CAPACITY = "kv_capacity"
NUM_LOGITS = "num_logits"
SOURCE_LENGTH = "source_length"
CANVAS_LENGTH = "canvas_length"
MASK_SLOTS = "mask_slots"
"""`num_tokens` plus the role's `mask_extra`."""
WINDOW_CAPACITY = "window_capacity_"
"""Beginning of the dimensions that `window_capacity` makes."""


def window_capacity(window: int) -> str:
    """The dimension of caches of layers that attend to the last `window` tokens only."""
    return f"{WINDOW_CAPACITY}{window}"


Dim = int | str


class DType(str, Enum):
    """Element types of ports and states; the values are ONNX's lower-case names."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT64 = "int64"
    INT32 = "int32"
    BOOL = "bool"

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return _ITEMSIZE[self]


_ITEMSIZE = {
    DType.FLOAT32: 4,
    DType.FLOAT16: 2,
    DType.BFLOAT16: 2,
    DType.INT64: 8,
    DType.INT32: 4,
    DType.BOOL: 1,
}


@dataclass(frozen=True)
class Port:
    """One input or output of a role's graph."""

    name: str
    """The name in the graph."""
    dtype: DType
    """Element type."""
    shape: Annotated[tuple[Annotated[int, Range(1, MAX_VOCAB_SIZE)] | str, ...], Count(1, 8)]
    """Sizes; a string is one of the named dimensions."""

    def to_json(self) -> dict[str, object]:
        """This port as the manifest writes it."""
        return {"name": self.name, "dtype": self.dtype.value, "shape": list(self.shape)}


# Inputs of a round. Row t of sequence b is one token: `input_ids[b, t]` at `position_ids[b, t]`, written to cache slot
# `write_index[b] + t`. Rows from `row_count[b]` on are padding.
INPUT_IDS = Port("input_ids", DType.INT64, (BATCH, NUM_TOKENS))
POSITION_IDS = Port("position_ids", DType.INT64, (BATCH, NUM_TOKENS))
# Every row sees all slots below `mask_start[b]`, and itself. From there on, row t sees slot `mask_start[b] + u` if
# tree_mask[b, t, u] is true. The mask must cover what is left of the round: `mask_start` is at least `write_index` less
# the role's `mask_extra`. Where rows see each other and what lies behind them, as on a canvas, it is the first slot
# behind all that they see.
MASK_START = Port("mask_start", DType.INT64, (BATCH,))
TREE_MASK = Port("tree_mask", DType.BOOL, (BATCH, NUM_TOKENS, MASK_SLOTS))
WRITE_INDEX = Port("write_index", DType.INT64, (BATCH,))
ROW_COUNT = Port("row_count", DType.INT64, (BATCH,))
# logits_rows[b, r]: the row of this round for which logits r are computed.
LOGITS_ROWS = Port("logits_rows", DType.INT64, (BATCH, NUM_LOGITS))

# window_offset[b]: the position of slot 0 in the caches of layers with a window; in these, a round is written from slot
# `write_index[b] - window_offset[b]` on. They slide: the runtime moves what is still visible to the front before a
# cache is full, so that writing stays linear.
WINDOW_OFFSET = Port("window_offset", DType.INT64, (BATCH,))

# An input of heads: the last token of each sequence's text, which the target has not read yet.
LAST_IDS = Port("input_ids", DType.INT64, (BATCH, 1))

# Inputs of an encoder; the mask is also read by roles that attend to its output. Positions of the source that are False
# are padding.
SOURCE_IDS = Port("input_ids", DType.INT64, (BATCH, SOURCE_LENGTH))
ENCODER_ATTENTION_MASK = Port("encoder_attention_mask", DType.BOOL, (BATCH, SOURCE_LENGTH))

# A canvas: the whole text of a row, of which the first `lengths[b]` positions count.
CANVAS_IDS = Port("input_ids", DType.INT64, (BATCH, CANVAS_LENGTH))
LENGTHS = Port("lengths", DType.INT64, (BATCH,))
# time[b]: the noise level of a text, for a model that reads it: which share of the positions to fill is still masked.
TIME = Port("time", DType.FLOAT32, (BATCH,))
# canvas_mask[b, t]: position t is still to be filled.
CANVAS_MASK = Port("canvas_mask", DType.BOOL, (BATCH, CANVAS_LENGTH))
# step[b]: how many positions this round fills at least, in the order of its policy.
STEP = Port("step", DType.INT64, (BATCH,))
# threshold[b]: which positions are filled as well; see PolicyKind.
THRESHOLD = Port("threshold", DType.FLOAT32, (BATCH,))
# temperature[b]: tokens are sampled at this temperature; 0 for the likeliest.
TEMPERATURE = Port("temperature", DType.FLOAT32, (BATCH,))
# uniforms[b, t]: two random numbers in [0, 1), multiples of 2^-23: the first samples the token of position t, and the
# second ranks it.
UNIFORMS = Port("uniforms", DType.FLOAT32, (BATCH, CANVAS_LENGTH, 2))
# The canvas after a round.
OUTPUT_IDS = Port("output_ids", DType.INT64, (BATCH, CANVAS_LENGTH))
OUTPUT_LENGTHS = Port("output_lengths", DType.INT64, (BATCH,))
# num_masked[b]: how many positions of canvas_mask are left to be filled.
NUM_MASKED = Port("num_masked", DType.INT64, (BATCH,))
# confidence[b, t]: the probability of the token chosen for position t.
CONFIDENCE = Port("confidence", DType.FLOAT32, (BATCH, CANVAS_LENGTH))
# In plans that draft steps: the token chosen for each position, and its order among those of canvas_mask, from 0.
CANDIDATE_IDS = Port("candidate_ids", DType.INT64, (BATCH, CANVAS_LENGTH))
CANDIDATE_RANKS = Port("candidate_ranks", DType.INT64, (BATCH, CANVAS_LENGTH))

# A language model as a denoiser reads rows, and decides the tokens of some positions, its columns. Row
# `logits_rows[b, r]` predicts column r, and column_ids[b, r] is its token before the round.
(
    COLUMN_IDS,
    COLUMN_MASK,
    COLUMN_UNIFORMS,
    COLUMN_OUTPUT_IDS,
    COLUMN_CONFIDENCE,
    COLUMN_CANDIDATE_IDS,
    COLUMN_CANDIDATE_RANKS,
) = (
    Port(name, port.dtype, (BATCH, NUM_LOGITS, *port.shape[2:]))
    for name, port in (
        ("column_ids", CANVAS_IDS),
        (CANVAS_MASK.name, CANVAS_MASK),
        (UNIFORMS.name, UNIFORMS),
        (OUTPUT_IDS.name, OUTPUT_IDS),
        (CONFIDENCE.name, CONFIDENCE),
        (CANDIDATE_IDS.name, CANDIDATE_IDS),
        (CANDIDATE_RANKS.name, CANDIDATE_RANKS),
    )
)

# An output of a target in addition to logits, for drafters that read more than its text.
HIDDEN_STATES = "hidden_states"

NEXT_IDS = Port("next_ids", DType.INT64, (BATCH, NUM_LOGITS))

CAUSAL_INPUTS = (INPUT_IDS, POSITION_IDS, TREE_MASK, MASK_START, WRITE_INDEX, ROW_COUNT, LOGITS_ROWS)
"""Inputs of a language model's round, besides its caches and, if they slide, `window_offset`."""


def logits(vocab_size: int, dtype: DType) -> Port:
    """Logits of the chosen rows, `[batch, num_logits, vocab_size]`."""
    return Port("logits", dtype, (BATCH, NUM_LOGITS, vocab_size))


def hidden_states(hidden_size: int, dtype: DType) -> Port:
    """States of every row of a round, `[batch, num_tokens, hidden_size]`: a target gives them, a drafter reads them."""
    return Port(HIDDEN_STATES, dtype, (BATCH, NUM_TOKENS, hidden_size))


def top_ids(count: int) -> Port:
    """The likeliest tokens after every row of a round, the likeliest first, `[batch, num_tokens, count]`."""
    return Port("top_ids", DType.INT64, (BATCH, NUM_TOKENS, count))


def carried_states(hidden_size: int, dtype: DType) -> Port:
    """A drafter's own states of the chosen rows, `[batch, num_logits, hidden_size]`.

    The next run reads them as `hidden_states` of the drafts, for which the target's are not known yet.
    """
    return Port("carried_states", dtype, (BATCH, NUM_LOGITS, hidden_size))


def tapped(port: Port) -> Port:
    """The drafter's input port for an output of the target: the row at the end of each sequence's text."""
    return Port(port.name, port.dtype, (BATCH, 1, port.shape[-1]))


def draft_ids(num_drafts: int) -> Port:
    """The drafts of a whole tree, in node order, `[batch, num_drafts]`."""
    return Port("draft_ids", DType.INT64, (BATCH, num_drafts))


def past(layer: int, part: str) -> str:
    """Name of the input port of one layer's cache; `part` is `key` or `value`."""
    return f"past_key_values.{layer}.{part}"


def present(layer: int, part: str) -> str:
    """Name of the output port of one layer's cache: the same buffer as `past`, written in place."""
    return f"present.{layer}.{part}"


def encoder_hidden_states(hidden_size: int, dtype: DType) -> Port:
    """An encoder's output for the source, `[batch, source_length, hidden_size]`."""
    return Port("encoder_hidden_states", dtype, (BATCH, SOURCE_LENGTH, hidden_size))


def cross_past(layer: int, part: str) -> str:
    """Name of the input port of one layer's cross state, which is only read; `part` is `key` or `value`."""
    return f"past_key_values.{layer}.encoder.{part}"


def cross_present(layer: int, part: str) -> str:
    """Name of the encoder's output port of that cross state."""
    return f"present.{layer}.encoder.{part}"


def has_models_type(name: str, num_dimensions: int) -> bool:
    """Whether a floating-point port has the model's type; a policy's numbers and confidences are float32."""
    return num_dimensions > 2 and name != UNIFORMS.name
