"""The model on a CPU: transformers' Mistral, greedy, one sequence at a time.

Deterministic on purpose: the load generator learns the right answer once and tells a wrong one later. Importing this
module loads torch, so only the process that answers does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import MistralForCausalLM

from serving.tokenizer import END


class Model:
    """A Mistral with its weights loaded."""

    def __init__(self, folder: Path) -> None:
        """Load the weights of a folder that `serving.make_model` (or save_pretrained) wrote.

        Raises:
            OSError: there is no model in the folder.
        """
        # Requests share the process: one thread each, and the pool decides how many compute at once.
        torch.set_num_threads(1)
        self._net = MistralForCausalLM.from_pretrained(folder, local_files_only=True).eval()

    def tokens(self, prompt: Sequence[int], limit: int) -> Iterator[int]:
        """The answer, token by token: at most `limit`, fewer when the model ends it (the end token is not given)."""
        ids, past = torch.tensor([list(prompt)]), None
        for _ in range(limit):
            with torch.inference_mode():
                out = self._net(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
            ids, past = out.logits[:, -1].argmax(-1, keepdim=True), out.past_key_values
            token = int(ids[0, 0])
            if token == END:
                return
            yield token
