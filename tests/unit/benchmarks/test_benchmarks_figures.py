"""Medians, ratios, JSON, table and picture of the measurements."""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest

from benchmarks.figures import CONTESTANTS, STREAMED, Cell, Row, Spent, spent_table, table
from benchmarks.picture import draw
from benchmarks.prompts import Prompts
from benchmarks.serving import arguments
from serving.tokenizer import Tokenizer

# The machine was half as fast in the second round, and stalled while one contestant was measured in the third.
ROW = Row(
    Cell(16, 512),
    {
        "ours": [200.0, 100.0, 200.0],
        "one_at_a_time": [20.0, 10.0, 4.0],
        "transformers_serve": [100.0, 50.0, 100.0],
        "bare_engine": [250.0, 125.0, 250.0],
        STREAMED: [180.0, 90.0, 180.0],
    },
)


def test_a_rate_is_the_median_of_the_rounds() -> None:
    assert ROW.rate("ours") == 200
    assert ROW.rate("one_at_a_time") == 10


def test_a_ratio_compares_rates_of_the_same_round() -> None:
    assert ROW.ratio("ours", "one_at_a_time") == 10
    assert ROW.ratio("ours", "bare_engine") == pytest.approx(0.8)


def test_the_table_has_a_line_for_each_row_with_rates_and_ratios() -> None:
    _, _, line = table([ROW]).splitlines()
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "16", "512 tokens", "200.0", "10.0", "100.0", "250.0", "10.0 ×", "2.0 ×", "80 %", "180.0",
    ]  # fmt: skip


def test_the_table_of_processes_has_the_cores_that_each_uses_and_leaves_idle_ones_out() -> None:
    text = spent_table([Spent(Cell(1, 16), 10.0, {"engine": 15.0, "proxy": 1.0, "idle": 0.01})])
    lines = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines()[2:]]
    assert lines == [["engine", "1.50"], ["proxy", "0.10"]]


def test_the_picture_has_a_bar_for_each_contestant_in_each_row_as_high_as_its_rate() -> None:
    rows = [ROW, Row(Cell(1, 16), {name: [10.0 * (n + 1)] for n, name in enumerate([*CONTESTANTS, STREAMED])})]
    # Bars are in groups of the picture; other rectangles (page, legend) are not.
    bars = list(ElementTree.fromstring(draw(rows)).iterfind(".//{*}g/{*}rect"))
    assert Counter(bar.get("class") for bar in bars) == dict.fromkeys(CONTESTANTS, 2)
    heights = [float(bar.attrib["height"]) for bar in bars]
    rates = [row.rate(name) for row in rows for name in CONTESTANTS]
    assert [height / heights[0] for height in heights] == pytest.approx([rate / rates[0] for rate in rates], abs=0.01)


@pytest.mark.parametrize("tokens", [16, 512])
def test_prompts_have_exactly_the_requested_number_of_tokens_and_are_all_different(tokens: int) -> None:
    tokenizer = Tokenizer()
    texts = Prompts(tokenizer.token_bytes.pieces, tokenizer.completion, seed=1).some(30, tokens)
    assert {len(tokenizer.completion(text)) for text in texts} == {tokens}
    assert len(set(texts)) == 30


def test_the_command_refuses_unknown_prompts_and_impossible_numbers_of_clients(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--prompts", "short,huge"], ["--clients", "0"], ["--clients", "many"]):
        with pytest.raises(SystemExit):
            arguments(wrong)
    assert "huge: not one of short, long" in capsys.readouterr().err
    assert arguments(["--prompts", "long", "--clients", "2,8"]) == argparse.Namespace(
        clients=[2, 8], prompts=["long"], quick=False, json=None, plot=None, gaps=False
    )
