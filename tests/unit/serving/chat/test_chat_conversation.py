"""The chat's conversation, made from the messages on its page."""

from __future__ import annotations

import pytest

from serving.chat.conversation import Answer, Exchange, Shown, answered, asked, exchanges, messages, stopped, until_asked


def page(*turns: tuple[str, Answer]) -> list[Shown]:
    """Return the page's messages after these questions and answers."""
    return [message for question, answer in turns for message in (asked(question), *answered(answer))]


def test_the_complete_conversation_is_sent() -> None:
    shown = [*page(("one", Answer("1")), ("two", Answer("2"))), asked("three")]
    assert exchanges(shown) == [Exchange("one", "1"), Exchange("two", "2"), Exchange("three")]
    assert [(message["role"], message["content"]) for message in messages(exchanges(shown), "be brief")] == [
        ("system", "be brief"), ("user", "one"), ("assistant", "1"), ("user", "two"), ("assistant", "2"), ("user", "three"),
    ]  # fmt: skip


def test_without_a_system_prompt_none_is_sent() -> None:
    assert messages([Exchange("one")]) == [{"role": "user", "content": "one"}]


def test_remarks_are_never_sent() -> None:
    shown = [*page(("one", Answer("1", remarks=("The answer broke off.", "It was long.")))), asked("two")]
    assert exchanges(shown) == [Exchange("one", "1"), Exchange("two")]


@pytest.mark.parametrize("answer", [Answer(waiting="Waiting…"), Answer(remarks=("The service cannot be reached.",))])
def test_an_earlier_question_without_an_answer_is_not_sent(answer: Answer) -> None:
    shown = [*page(("one", Answer("1")), ("lost", answer)), asked("two")]
    assert exchanges(shown) == [Exchange("one", "1"), Exchange("two")]


def test_a_question_is_sent_again_without_the_messages_after_it() -> None:
    shown = page(("one", Answer("1")), ("two", Answer("2", remarks=("The answer broke off.",))))
    assert until_asked(shown) == shown[:3]
    assert until_asked([]) == []


def test_the_text_stays_when_an_answer_is_stopped() -> None:
    after = stopped(page(("one", Answer("half an"))))
    assert exchanges(after) == [Exchange("one", "half an")]
    assert after[-1]["metadata"]["title"] == "Stopped."


def test_no_waiting_remark_is_left_when_an_answer_is_stopped() -> None:
    after = stopped(page(("one", Answer(waiting="Waiting…"))))
    assert [message["metadata"] for message in after[1:]] == [{"title": "Stopped.", "status": "done"}]


def test_an_answer_keeps_its_white_space() -> None:
    text = "  a\n\n    indented\n"
    assert exchanges(page(("  q\n", Answer(text)))) == [Exchange("  q\n", text)]
