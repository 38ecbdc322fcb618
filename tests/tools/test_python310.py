"""Tests of serving/ under Python 3.10, with the package versions of the neuron image."""

from __future__ import annotations

import json

import pytest
import python310

pytestmark = pytest.mark.timeout(2 * python310.WITHIN_S)  # packages may have to be installed first

ABSENT = {
    "torch",
    "transformers",
    "transformers_neuronx",
    "libneuronxla",
    "ray",
    "grpc",
    "aiohttp",
    "gradio",
    "boto3",
    "safetensors",
    "gguf",
}
"""Packages that serving/ imports and that are not installed for this Python: too large, or not available."""

IMPORTS = """
import importlib, json, pathlib, sys
assert sys.version_info[:2] == (3, 10), sys.version
done = {}
for file in sorted(pathlib.Path("serving").rglob("*.py")):
    compile(file.read_bytes(), str(file), "exec")
    name = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
    if name.endswith("__main__"):
        continue
    try:
        importlib.import_module(name)
        done[name] = None
    except ModuleNotFoundError as error:
        done[name] = error.name
print(json.dumps(done))
"""


@pytest.fixture(scope="module", autouse=True)
def there_is_one() -> None:
    try:
        python310.interpreter()
    except python310.NoPython310 as error:
        pytest.skip(str(error))


def test_all_modules_of_serving_can_be_imported_except_those_that_need_missing_packages() -> None:
    done = python310.run("-c", IMPORTS)
    assert done.returncode == 0, done.stderr
    missing: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    assert {name.split(".")[0] for name in missing.values() if name} <= ABSENT
    for needed in (
        "serving.api.application",
        "serving.tokenizer",
        "serving.text",
        "serving.sse",
        "serving.settings",
        "serving.engines.contract",
    ):
        assert missing[needed] is None


def test_the_tests_of_tokens_text_and_the_api_pass_under_python_310() -> None:
    modules = [f"tests/unit/serving/{name}" for name in ("tokenizer", "test_text.py", "api/test_api_client.py", "api/test_api_streams.py")]
    done = python310.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *modules)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
