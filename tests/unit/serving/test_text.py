"""The parts of a growing text are together exactly the text of all tokens, without stop strings."""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from serving.text import GrowingText, TokenBytes
from serving.tokenizer import Tokenizer

LETTERS = TokenBytes([bytes([byte]) for byte in range(256)])
BYTES = 771
"""Token of the byte 0 in v3; the other bytes follow."""


@cache
def v3() -> Tokenizer:
    return Tokenizer()


@pytest.fixture(scope="session")
def with_tekken(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Return the tokenizer of a checkpoint with Mistral's newer format."""
    folder = tmp_path_factory.mktemp("checkpoint")
    packaged = MistralTokenizer.v3(is_tekken=True).instruct_tokenizer.tokenizer.file_path
    (folder / "tekken.json").symlink_to(packaged)
    return Tokenizer(folder)


def pieces(text: GrowingText, ids: list[int]) -> list[str]:
    return [*map(text.add, ids), text.rest()]


def ids_of(bytes_from: int, vocabulary: int) -> st.SearchStrategy[list[int]]:
    """Draw any tokens, among them many bytes, control tokens and spaces."""
    one = st.one_of(
        st.integers(0, vocabulary - 1),
        st.integers(bytes_from, bytes_from + 255),
        st.integers(0, 12),
        st.sampled_from([29473, 1027, bytes_from + 0x20, bytes_from]),
    )
    characters = st.text(max_size=3).map(lambda text: [bytes_from + byte for byte in text.encode()])
    return st.lists(st.one_of(one.map(lambda id: [id]), characters), max_size=12).map(lambda parts: [*chain(*parts)])


@given(ids_of(BYTES, 32768))
def test_the_parts_are_together_the_text_of_all_tokens(ids: list[int]) -> None:
    assert "".join(pieces(GrowingText(v3().token_bytes), ids)) == v3().text(ids)


def test_the_parts_are_together_the_text_of_all_tokens_of_the_newer_format(with_tekken: Tokenizer) -> None:
    @given(ids_of(1000, with_tekken.vocabulary))
    def holds(ids: list[int]) -> None:
        assert "".join(pieces(GrowingText(with_tekken.token_bytes), ids)) == with_tekken.text(ids)

    holds()


@given(st.text(), st.text())
def test_a_continuation_is_the_text_after_the_prompt(prompt: str, more: str) -> None:
    ids = v3().completion(more)[1:]
    whole = v3().text([*v3().completion(prompt or "x"), *ids])
    given_out = "".join(pieces(GrowingText(v3().token_bytes, continues=True), ids))
    assert whole == v3().text(v3().completion(prompt or "x")) + given_out


@given(st.text())
def test_no_part_of_a_text_ends_inside_a_character(text: str) -> None:
    growing = GrowingText(LETTERS)
    given_out = [growing.add(byte) for byte in text.encode()]
    assert [piece for piece in given_out if piece] == list(text)
    assert growing.rest() == ""


def test_text_that_was_held_back_is_returned_at_the_end() -> None:
    growing = GrowingText(LETTERS)
    assert growing.add(0xC3) == ""
    assert growing.rest() == "\N{REPLACEMENT CHARACTER}"


def test_an_unknown_token_has_no_text() -> None:
    assert "".join(pieces(GrowingText(LETTERS), [0x61, 256, 10**6, 0x62])) == "ab"


AB = st.text(alphabet="ab ", max_size=30)


def first_stop(text: str, stops: list[str]) -> str | None:
    """Return the text before the stop string that is complete first, the longest of several; None: there is none."""
    ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    return text[: min(ends)[0] + min(ends)[1]] if ends else None


@given(AB, st.lists(st.text(alphabet="ab ", min_size=1, max_size=5), min_size=1, max_size=4), st.data())
def test_a_stop_string_ends_the_text_however_the_text_is_cut(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    growing = GrowingText(TokenBytes([part.encode() for part in parts]), stops)
    given_out: list[str] = []
    for token in range(len(parts)):
        given_out.append(growing.add(token))
        # Returned text is final: no stop string is in it, and none has begun in it that later text could complete.
        assert not any(stop in "".join(given_out) for stop in stops)
        if growing.stopped:
            break
    given_out.append(growing.rest())
    before = first_stop(text, stops)
    assert growing.stopped == (before is not None)
    assert "".join(given_out) == (text if before is None else before)


@given(AB, st.lists(st.text(alphabet="ab ", min_size=1, max_size=5), min_size=1, max_size=4))
def test_only_text_that_may_become_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    growing, given_out, fed = GrowingText(LETTERS, stops), "", ""
    for char in text:
        fed += char
        given_out += growing.add(ord(char))
        if growing.stopped:
            return
        held = fed[len(given_out) :]
        assert not held or any(stop.startswith(held) for stop in stops)


def test_the_cost_of_a_long_stop_string_depends_only_on_the_text_that_has_come() -> None:
    looked_at = []

    class Watched(str):
        __slots__ = ()

        def __getitem__(self, at: SupportsIndex | slice) -> str:
            looked_at.append(at if isinstance(at, SupportsIndex) else "more than one")
            return str(self)[at]

    growing = GrowingText(LETTERS, [Watched("ab" * 100)])
    assert "".join(pieces(growing, [*b"ababc"])) == "ababc"
    assert set(looked_at) == {0, 1, 2, 3, 4}


def test_no_text_comes_after_a_stop_string() -> None:
    growing = GrowingText(LETTERS, ["b"])
    assert [growing.add(ord(char)) for char in "abc"] == ["a", "", ""]
    assert growing.stopped
    assert growing.rest() == ""


def test_a_stop_string_may_have_characters_of_many_bytes_and_end_in_the_rest() -> None:
    growing = GrowingText(LETTERS, ["é\N{REPLACEMENT CHARACTER}"])
    assert [growing.add(byte) for byte in "xé".encode()] == ["x", "", ""]
    assert growing.add(0xC3) == ""
    assert growing.rest() == ""
    assert growing.stopped
