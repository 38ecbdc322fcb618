"""Make a Mistral that is right in architecture and vocabulary and random in its weights.

    python -m serving.make_model FOLDER [tiny|bench]

Its words are noise. What it is for is everything around the words: a replica that takes time to load, computes for every
token, streams, and always gives the same answer to the same question.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import MistralConfig, MistralForCausalLM

from serving.tokenizer import END, VOCABULARY

SEED = 20
"""Any seed gives noise. A change changes every answer, so all replicas must come from one image."""

DESCRIPTION = "This model has random weights: its words are noise. What is real is that it keeps answering."
"""Kept in config.json; the API tells it with the model, and the chat shows it."""

SIZES: dict[str, dict[str, int]] = {
    # What two cores carry at ten short requests a second and eight live streams together with a whole Kubernetes:
    # 4.3 million parameters, most of them the two vocabulary matrices. The image carries it.
    "tiny": {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    # Large enough that reading the weights takes the time, as with a real one: 104 million parameters, 400 MB. Mistral 7B's
    # proportions: four query heads to a key head, 3.5 times as wide between the layers.
    "bench": {"hidden_size": 768, "intermediate_size": 2688, "num_hidden_layers": 7, "num_attention_heads": 12, "num_key_value_heads": 3},
}


def config(size: str = "tiny") -> MistralConfig:
    """The shape of the model: Mistral's, with few and small layers."""
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
    """Write the model to the folder; the same bytes every time. Returns the number of its parameters."""
    torch.manual_seed(SEED)
    net = MistralForCausalLM(config(size))
    with torch.no_grad():
        # The default spread of 0.02 makes all answers alike: the last token decides alone. Wider layers make the
        # answer depend on the whole prompt, which is what a wrong answer is told from.
        for layer in net.model.layers:
            for weight in layer.parameters():
                if weight.dim() == 2:
                    weight.mul_(8)
        # Its logit is 0, and of 32768 others one is always more: answers have the length that was asked for.
        net.lm_head.weight[END].zero_()
    net.save_pretrained(folder)
    return sum(p.numel() for p in net.parameters())


if __name__ == "__main__":
    print(f"{make(Path(sys.argv[1]), *sys.argv[2:]):,} parameters in {sys.argv[1]}")
