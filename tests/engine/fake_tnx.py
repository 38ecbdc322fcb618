"""A stand-in for transformers_neuronx: the rules of its continuous batching for callers, without its mathematics.

Its "attention" is exact: the logits of a row come from a random generator that is seeded with all tokens in the row's cache up
to its position. So every silent change of a cache by the real library (token 0 at position 0 of a row that a decode does not
name) shows in every later answer of that row. Rules and messages are from the library's source, see tnx_signatures.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tnx_signatures import AMP, CONTINUOUS_BATCHING, FORWARD, GQA, MISTRAL, NEURON_CONFIG, bound
from torch import Tensor


class ContinuousBatchingConfig:
    """Keyword arguments as recorded."""

    def __init__(self, **given: Any) -> None:
        asked = bound(CONTINUOUS_BATCHING, given)
        if not given.keys() & {"max_num_seqs", "batch_size_for_shared_caches"}:
            raise KeyError("max_num_seqs")
        self.batch_size_for_shared_caches: int = asked["batch_size_for_shared_caches"] or asked["max_num_seqs"]


class NeuronConfig:
    """Keyword arguments as recorded."""

    def __init__(self, **given: Any) -> None:
        self.asked = bound(NEURON_CONFIG, given)
        self.continuous_batching: ContinuousBatchingConfig | None = self.asked["continuous_batching"]


class MistralForSampling:
    """The model with continuous batching on."""

    def __init__(self, vocabulary: int, layers: int, asked: dict[str, Any]) -> None:
        self._vocabulary, self._asked, self._layers = vocabulary, asked, layers
        self._rows: int = asked["batch_size"]
        self._contexts, self._tokens = sorted(asked["context_length_estimate"]), sorted(asked["n_positions"])
        self._cache = torch.zeros(self._tokens[-1], self._rows, dtype=torch.int64)
        self._loaded: Path | None = None
        self.compiled_by: list[str] = []
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    @classmethod
    def from_pretrained(cls, pretrained_model_path: str, *model_args: Any, **given: Any) -> MistralForSampling:
        assert not model_args
        asked = bound(MISTRAL, given)
        config = json.loads((Path(pretrained_model_path) / "config.json").read_text())
        assert list(Path(pretrained_model_path).glob("*.safetensors"))
        batching = asked["neuron_config"].continuous_batching
        assert max(asked["context_length_estimate"]) <= max(asked["n_positions"])
        assert asked["amp"] in AMP
        assert isinstance(asked["batch_size"], int)
        assert asked["batch_size"] == batching.batch_size_for_shared_caches
        return cls(config["vocab_size"], config["num_hidden_layers"], asked)

    # Compilation

    def _graphs(self) -> list[str]:
        """Return the names of the files with its graphs: one for each bucket, and other names for other arguments."""
        arguments = {name: value for name, value in self._asked.items() if name != "neuron_config"}
        config = {name: str(value) for name, value in self._asked["neuron_config"].asked.items() if name != "continuous_batching"}
        buckets = [*(("context", n) for n in self._contexts), *(("token", n) for n in self._tokens)]
        graphs = [json.dumps([self._vocabulary, self._layers, arguments, config, bucket], sort_keys=True) for bucket in buckets]
        return [f"{hashlib.sha256(graph.encode()).hexdigest()[:20]}.neff" for graph in graphs]

    def cpu_compile(self) -> None:
        self.compiled_by.append("cpu")

    def load(self, directory: str) -> None:
        self._loaded = Path(directory)

    def to_neuron(self) -> None:
        if self._loaded is None:
            self.compiled_by.append("cores")
        elif not all((self._loaded / name).is_file() for name in self._graphs()):
            raise FileNotFoundError("Could not find a matching NEFF")
        self.on_cores = True

    def save(self, directory: str) -> None:
        assert self.compiled_by, "nothing was compiled"
        for name in self._graphs():
            Path(directory, name).write_text("graph")

    # Steps

    def __call__(self, *given: Any, **named: Any) -> Tensor:
        return self.forward(*given, **named)

    def forward(self, *given: Any, **named: Any) -> Tensor:
        assert self.on_cores
        asked = bound(FORWARD, {**dict(zip(FORWARD, given, strict=False)), **named})
        ids, places, rows = asked["input_ids"], asked["cache_ids"], asked["start_ids"]
        self.calls.append((ids, places, rows))
        length = ids.shape[1]
        if length > 1 and places[0, 0].item() == 0:  # AttributeError or TypeError without cache_ids
            return self._prefill(ids, places, rows)
        assert length == 1, "only q_len == 1 or q_len == k_len"
        return self._decode(ids, places, rows)

    def _prefill(self, ids: Tensor, places: Tensor, rows: Tensor) -> Tensor:
        length = ids.shape[1]
        if length > self._contexts[-1]:
            raise AssertionError(f"invalid input prompt length ({length})")
        # More would be a loop on the host that drops two inputs of the graph, with unknown results.
        assert ids.shape[0] == rows.numel() == 1, "one prompt a prefill"
        assert ids.dtype == places.dtype == torch.int64
        assert places.tolist() == [list(range(length))]
        row = rows.item()
        assert 0 <= row < self._rows, f"slot {row}"
        bucket = next(size for size in self._contexts if size >= length)
        self._cache[:bucket, row] = torch.nn.functional.pad(ids[0], (0, bucket - length))
        return self._logits(row, length - 1)[None]

    def _decode(self, ids: Tensor, places: Tensor, rows: Tensor) -> Tensor:
        """Compute all rows; rows that are not named silently get token 0 at position 0."""
        all_ids = torch.zeros(self._rows, 1, dtype=torch.int64)
        at = rows.reshape(-1, 1)
        all_places = torch.zeros_like(all_ids).scatter(0, at, places)
        all_ids = all_ids.scatter(0, at, ids)
        next(size for size in self._tokens if all_places.max() < size)  # StopIteration beyond the last
        self._cache[all_places[:, 0], torch.arange(self._rows)] = all_ids[:, 0]
        logits = torch.stack([self._logits(row, int(all_places[row, 0])) for row in range(self._rows)])
        return logits[rows]

    def _logits(self, row: int, position: int) -> Tensor:
        held = self._cache[: position + 1, row].numpy().tobytes()
        seed = int.from_bytes(hashlib.sha256(held).digest()[:7], "little")
        return torch.randn(self._vocabulary, generator=torch.Generator().manual_seed(seed))


def install(monkeypatch: pytest.MonkeyPatch) -> list[MistralForSampling]:
    """Make `import transformers_neuronx` import the stand-in; return the list to which constructed models are added."""
    made: list[MistralForSampling] = []

    class Listed(MistralForSampling):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    module: Any = ModuleType("transformers_neuronx")
    module.GQA = type("GQA", (), {name: name for name in GQA})
    module.ContinuousBatchingConfig, module.NeuronConfig, module.MistralForSampling = ContinuousBatchingConfig, NeuronConfig, Listed
    monkeypatch.setitem(sys.modules, "transformers_neuronx", module)
    return made
