"""Limits of values in files, the same in Python and in C++ (docs/bundle.md)."""

from __future__ import annotations

MAX_JSON_BYTES = 64 << 20
"""Bytes of a JSON file."""
MAX_JSON_DEPTH = 64
"""Nesting depth of objects and lists."""
MAX_STRING = 4096
"""Characters of a name or path."""
MAX_ENTRIES = 1 << 16
"""Files of a manifest, and entries of lists and objects without their own limit."""

MAX_BATCH = 1024
"""Sequences that are decoded together."""
MAX_SIZES = 64
"""Widths, capacities, lengths and windows of a build, of each kind."""
MAX_WIDTH = 1 << 16
"""Rows of a round."""
MAX_LENGTH = 1 << 24
"""Tokens of a text, a source, a canvas or a window."""
MAX_CAPACITY = 1 << 25
"""Slots of a cache."""
MAX_VOCAB_SIZE = 1 << 24
"""Entries of a vocabulary."""
MAX_CONTEXT_LENGTH = 1 << 40
"""Positions that a model was made for."""
MAX_STATES = 4096
"""Layers of a role that have a state."""
MAX_HEADS = 1 << 16
"""Heads of a layer, and size of a head."""
MAX_EOS_TOKENS = 4096
"""Tokens that end a text."""
MAX_TREE_NODES = 4096
"""Nodes of a proposal, its root included."""
MAX_TOP_IDS = 64
"""Likeliest tokens that a drafter keeps for each token."""
MAX_NGRAM_SIZE = 64
"""Tokens of a suffix that is looked up."""
MAX_CANDIDATES = 1024
"""Tokens of which a lossy rule may accept any."""
MAX_MARGIN = 100.0
"""Difference of log-probabilities."""
MAX_THRESHOLD = 1000.0
"""Threshold of an unmasking policy that is no probability: a factor, or a sum of entropies."""
MAX_ROUNDS = 1 << 16
"""Rounds of one canvas or one edited text."""
MAX_DRAFT_STEPS = 63
"""Steps of a canvas that are drafted."""
MAX_OPERATIONS = 64
"""Operations of an edit round."""
MAX_UPSAMPLING = 64
"""Rows of a one-shot decoder for each token of its source."""
MAX_COUNT = 1 << 53
"""Bytes of a file, and other counts."""
MAX_BUFFER_BYTES = 1 << 46
"""Bytes of a cache or of a buffer of a round."""
MAX_THREADS = 4096
"""Threads of an engine."""
MAX_SECONDS = 1e6
"""Seconds of one round."""
