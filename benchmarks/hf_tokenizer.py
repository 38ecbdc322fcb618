"""Writes the tokenizer that the service uses into a model folder, in transformers' format.

    python3 -m benchmarks.hf_tokenizer MODEL

So every contestant encodes a text to the same tokens.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path

from tokenizers import normalizers
from transformers import AutoTokenizer

PIECES = "data/mistral_instruct_tokenizer_240323.model.v3"
"""File in mistral-common's package that serving.tokenizer uses."""
CONFIG = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def write(folder: Path) -> None:
    """Write tokenizer.json and its configuration into the folder."""
    given = folder / "tokenizer.model"
    with files("mistral_common").joinpath(PIECES).open("rb") as source, given.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # The conversion leaves out the space that Mistral's own tokenizer adds before the first word.
    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(spaces)
    given.unlink()
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
