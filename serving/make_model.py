"""Makes a model with Mistral's architecture and vocabulary, and random weights.

    python -m serving.make_model FOLDER [tiny|bench]

Its text is noise. It serves to test everything around the text: a replica takes time to load, computes for every token, streams, and
always gives the same answer to the same question.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import MistralConfig, MistralForCausalLM

from serving.tokenizer.mistral import END, VOCABULARY

SEED = 20
"""Seed of the weights. Another seed changes every answer, so all replicas must come from one image."""

DESCRIPTION = "This model has random weights: its words are noise. What is real is that it keeps answering."
"""Description in config.json; the API returns it with the model, and the chat shows it."""

SIZES: dict[str, dict[str, int]] = {
    # Small enough for two cores at ten short requests a second and eight live streams, with a whole Kubernetes beside it:
    # 4.3 million parameters, most of them in the two vocabulary matrices. It is in the image.
    "tiny": {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    # Large enough that reading the weights takes most of the time, as with a real model: 104 million parameters, 400 MB. The proportions
    # are Mistral 7B's: four query heads to a key head, feed-forward layers 3.5 times as wide.
    "bench": {"hidden_size": 768, "intermediate_size": 2688, "num_hidden_layers": 7, "num_attention_heads": 12, "num_key_value_heads": 3},
}


def config(size: str = "tiny") -> MistralConfig:
    """Return the model's configuration: Mistral's, with few and small layers."""
    return MistralConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        sliding_window=None,
        bos_token_id=1,
        eos_token_id=END,
        dtype="float32",
        description=DESCRIPTION,
        **SIZES[size],
    )


def make(folder: Path, size: str = "tiny") -> int:
    """Write the model to the folder, the same bytes every time. Return the number of its parameters."""
    torch.manual_seed(SEED)
    net = MistralForCausalLM(config(size))
    with torch.no_grad():
        # With the default standard deviation of 0.02 all answers are alike, because only the last token decides. Larger weights make the
        # answer depend on the whole prompt, so that a wrong answer can be recognised.
        for layer in net.model.layers:
            for weight in layer.parameters():
                if weight.dim() == 2:
                    weight.mul_(8)
        # Its logit is 0, and one of the other 32767 is always larger: answers have the requested length.
        net.lm_head.weight[END].zero_()
    net.save_pretrained(folder)
    return sum(p.numel() for p in net.parameters())


if __name__ == "__main__":
    print(f"{make(Path(sys.argv[1]), *sys.argv[2:]):,} parameters in {sys.argv[1]}")
