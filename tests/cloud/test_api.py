"""The API in the cluster, through the service's own address: OpenAI's client, curl and schemathesis, all unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from system_under_test import Run

from scripts.services.services import Forward, free_port
from scripts.support.paths import PYTHON, ROOT

ASKED: dict[str, Any] = {"model": "mistral", "messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 16}


@pytest.fixture(scope="module")
def url(protected: Run) -> Iterator[str]:
    forward = Forward(free_port(8000), "mistral-serve-svc.mistral.svc.cluster.local", 8000)
    command = [str(PYTHON), "-m", "scripts.installed.forward", str(forward)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as forwarder:
        try:
            assert forwarder.stdout
            assert forwarder.stdout.readline().startswith("forwarding")
            yield f"http://127.0.0.1:{forward.port}"
        finally:
            forwarder.terminate()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none-is-needed") as official:
        yield official


def test_a_streamed_chat_answer_equals_the_one_that_is_not_streamed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**ASKED, temperature=0)
    *chunks, usage = client.chat.completions.create(**ASKED, temperature=0, stream=True, stream_options={"include_usage": True})
    assert answer.choices[0].message.content
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == answer.choices[0].finish_reason == "length"
    assert usage.usage == answer.usage


def test_every_replica_gives_the_same_answer_to_the_same_seed(client: openai.OpenAI) -> None:
    answers = [client.chat.completions.create(**ASKED, temperature=1, seed=7) for _ in range(8)]
    assert len({answer.choices[0].message.content for answer in answers}) == 1


def test_the_models_description_says_that_its_words_are_noise(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, "noise" in model.model_dump()["description"]) == ("mistral", True)


def test_the_refusal_of_a_wrong_parameter_names_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASKED, n=2)
    assert caught.value.param == "n"


def test_a_request_for_another_model_is_answered_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.chat.completions.create(**{**ASKED, "model": "gpt"})


def test_curl_gets_a_complete_stream_and_clients_of_infer_get_their_list(url: str) -> None:
    body = json.dumps({**ASKED, "stream": True})
    events = _curl(f"{url}/v1/chat/completions", "--no-buffer", "--json", body).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(event.removeprefix("data: "))["choices"] for event in events[:-2])
    (text,) = json.loads(_curl(f"{url}/infer", "--get", "--data-urlencode", "sentence=The sea", "--data", "max_tokens=4"))
    assert isinstance(text, str)


def _curl(*arguments: str) -> str:
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", "--max-time", "60", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.long  # tests/tools/test_api_document.py sends many more examples, to an engine without a pace
@pytest.mark.timeout(900)
def test_schemathesis_finds_no_server_error(url: str, tmp_path: Path) -> None:
    tool = Path(sys.executable).with_name("schemathesis")
    # A valid example may get the longest possible answer at a large model's pace: 26 s. So there are few.
    few = ["--phases", "fuzzing", "--max-examples", "6", "--seed", "7", "--generation-database", "none"]
    command = [str(tool), "run", f"{url}/openapi.json", *few, "--request-timeout", "120", "--checks", "not_a_server_error", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 7" in done.stdout
