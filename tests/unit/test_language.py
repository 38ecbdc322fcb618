"""Docstrings and comments use the field's words and can be understood without the line above them (glossary: ARCHITECTURE.md)."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "tasks", "blocks", "drills", "serving", "localcloud", "scripts", "startup", "benchmarks", "tests")

HEADLESS = re.compile(
    r"(Of|For which|By which|To which|In which|From which|On which|At which|With which|Which|Who|Whom|Whose|As|That|Else) "
)
"""First words of a docstring that lacks its subject."""

SHORTEST = 4
"""Words of a docstring."""

PRIVATE = re.compile(
    r"\b(anew|books|seam|doomed|notebook|whoever|whomever|somebody|nobody|thereof|therein|whereof|born|for good|puts? away|"
    r"machine of paper|mend(s|ed|ing)?)\b",
    re.IGNORECASE,
)
"""Words that a reader would have to learn here first, or that hide which request, pod, process or caller is meant."""


def files(package: str) -> list[Path]:
    """Every module of a top-level folder."""
    return sorted((ROOT / package).rglob("*.py"))


@cache
def docstrings(file: Path) -> tuple[tuple[int, str], ...]:
    """Line and text of every docstring: of modules, classes and functions, and of fields, which stand below what they describe."""
    return tuple(_docstrings(ast.parse(file.read_text(encoding="utf-8"))))


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, statement in zip([None, *body], body, strict=False):
            documented = isinstance(before, ast.Assign | ast.AnnAssign) or (
                before is None and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            )
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))) if documented:
                    yield statement.lineno, text


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("package", PACKAGES)
def test_every_docstring_has_a_subject_or_an_imperative(package: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for file in files(package)
        for line, text in docstrings(file)
        if HEADLESS.match(text) or len(text.split()) < SHORTEST
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_and_comments_use_words_that_the_field_knows(package: str) -> None:
    found = []
    for file in files(package):
        source = file.read_text(encoding="utf-8")
        if file == Path(__file__) or not PRIVATE.search(source):  # to take a file apart takes far longer
            continue
        for line, text in [*docstrings(file), *comments(source)]:
            if word := PRIVATE.search(text):
                found.append(f"{file.relative_to(ROOT)}:{line}: {word.group()}: {text.strip().splitlines()[0]}")
    assert not found, "\n".join(found)
