"""Templates of requests: presets, files of users, and what is refused before anything is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from drills.definition import Load
from drills.request import LEEWARD, BadTemplate, FromSecret, Template, presets

GIVEN = {"openai": {"model": "llama"}}
"""Values that a preset needs."""


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "requests.yaml"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid_and_can_be_sent(name: str) -> None:
    template = Template.of(name, values=GIVEN.get(name, {})).as_sent()
    for ask in template.asks.values():
        assert ask.target("a b", 3).startswith("/")
        assert b"${" not in ask.content("a b", 3)


def test_values_and_headers_replace_those_of_the_preset() -> None:
    token = FromSecret(secret="s", key="k")
    template = Template.of("openai", values={"model": "llama", "chat": "/chat"}, headers={"x-key": token})
    sent = template.as_sent()
    assert sent.asks["stream"].target("", 1) == "/chat"
    assert b'"llama"' in sent.asks["short"].content("Why?", 4)
    assert sent.headers == {"x-key": {"env": "LEEWARD_HEADER_1", "prefix": ""}}


def test_a_file_of_the_user_describes_a_service_that_no_preset_knows(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        sentences: [one, two]
        check: status
        short: {method: POST, path: "/ask?n=${tokens}", body: {q: "Say: ${sentence}", n: "${tokens}"}, answer: {read: json, text: a.0}}
        stream: {path: "/tell?q=${sentence}", answer: {read: lines, text: t, end: {done: true}}}
        """,
    )
    sent = Template.of(file).as_sent()
    assert sent.asks["short"].content("hi", 7) == b'{"q": "Say: hi", "n": 7}'
    assert sent.asks["stream"].target("a/b", 7) == "/tell?q=a%2Fb"
    assert (sent.check, sent.sentences) == ("status", ("one", "two"))


def test_every_preset_can_be_the_beginning_of_a_file_of_the_user(tmp_path: Path) -> None:
    from drills.request import PRESETS

    text = (PRESETS / "plain.yaml").read_text()
    assert Template.of(written(tmp_path, text)) == Template.of("plain")


BAD = {
    "no such file": ("nowhere.yaml", "is none of"),
    "not yaml": ("short: [", "is not YAML"),
    "no fields": ("hello", "has no fields"),
    "no short request": ("sentences: [a]", "short: Field required"),
    "no sentence": ("{sentences: [], short: {path: /, answer: {read: body}}}", "sentences"),
    "a misspelt field": ("{sentences: [a], short: {path: /, answer: {read: body}, boddy: 1}}", "short.boddy: Extra inputs"),
    "a path that is none": ("{sentences: [a], short: {path: http://x/, answer: {read: body}}}", "short.path"),
    "a body in a GET": ("{sentences: [a], short: {path: /, body: 1, answer: {read: body}}}", "a GET request has no body"),
    "an end of what is no stream": ("{sentences: [a], short: {path: /, answer: {read: json, end: x}}}", "are of streams"),
    "text of what is not read": ("{sentences: [a], short: {path: /, answer: {read: body, text: x}}}", "not read"),
    "a placeholder without a value": ('{sentences: [a], short: {path: "/${what}", answer: {read: body}}}', "what} has no value"),
    "a value that must be given": (
        '{values: {m: null}, sentences: [a], short: {path: "/${m}", answer: {read: body}}}',
        "m has no default: give it a value",
    ),
    "a header that the load sets": ("{headers: {Host: x}, sentences: [a], short: {path: /, answer: {read: body}}}", "Host cannot be set"),
    "a header that would be two": ('{headers: {x: "a\\r\\nb: c"}, sentences: [a], short: {path: /, answer: {read: body}}}', "headers.x"),
    "an unknown check": ("{check: exact, sentences: [a], short: {path: /, answer: {read: body}}}", "check"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_with_its_place_and_its_reason(tmp_path: Path, what: str) -> None:
    text, reason = BAD[what]
    with pytest.raises(BadTemplate, match=reason) as error:
        Template.of(text if what == "no such file" else written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_value_that_the_template_does_not_have_is_refused() -> None:
    with pytest.raises(BadTemplate, match="it has: path"):
        Template.of("plain", values={"model": "x"})


def test_a_service_without_streams_gets_a_load_without_streams() -> None:
    assert Template.of("plain").fitted(Load(streams=8)).streams == 0
    assert Template.of(LEEWARD).fitted(Load(streams=8)).streams == 8


def test_a_template_is_the_same_after_it_was_written_and_read() -> None:
    template = Template.of("openai", values={"model": "llama"})
    assert Template.model_validate(yaml.safe_load(yaml.safe_dump(template.model_dump(mode="json")))) == template
