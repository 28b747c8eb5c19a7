"""Every causal LM class of transformers is what docs/support.md says: exact, or refused with a reason."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.bundles import ROOT

sys.path.insert(0, str(ROOT / "tools"))
family_table: Any = importlib.import_module("family_table")

_ROW = re.compile(r"^\| (?P<family>[\w-]+) \| (?P<verdict>exact|refused|wrong|unavailable) \| (?P<remark>.*) \|$", re.M)
_TEXT = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
TABLE = {row["family"]: row for row in _ROW.finditer(_TEXT.partition(family_table.BEGIN)[2])}
# Kinds of layers that no other test has: gates before the output, values smaller than keys, one head.
SAMPLE = ("afmoe", "deepseek_v3", "diffllama", "gpt_bigcode")


def test_the_table_has_every_class_and_none_is_wrong() -> None:
    assert set(TABLE) == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert [family for family, row in TABLE.items() if row["verdict"] == "wrong"] == []


@pytest.mark.parametrize("family", list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
@pytest.mark.filterwarnings("ignore")  # of transformers' own making, a different one for every family
def test_read_in_rounds_every_class_is_what_the_table_says(family: str) -> None:
    row = TABLE[family]
    found = family_table.judge(family, graphs=False)
    if row["remark"].startswith("PyTorch could not trace it"):
        assert found.verdict == "exact"  # it is refused later
        return
    assert (found.verdict, found.remark.replace("|", "/")) == (row["verdict"], row["remark"])


@pytest.mark.parametrize("family", SAMPLE)
@pytest.mark.filterwarnings("ignore")  # as above
def test_graphs_of_classes_of_every_kind_are_exact(family: str) -> None:
    assert family_table.judge(family).verdict == "exact"
