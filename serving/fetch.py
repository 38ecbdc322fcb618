"""Fetch a model to a folder: `python3 -m serving.fetch MODEL REVISION FOLDER`, before a worker starts.

MODEL is OWNER/NAME of the Hugging Face hub, or s3://BUCKET/FOLDER; REVISION is empty for S3. Credentials, region and endpoint come from the
environment, as the two libraries expect them. A second run fetches only what is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

S3 = "s3://"
UNUSED = ("consolidated*", "original/*", "*.bin", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx")
"""Files of repositories in the hub that hold the same weights in another format."""


class CannotFetch(Exception):
    """The model cannot be had; the message says why."""


def fetch(model: str, revision: str, folder: Path) -> list[str]:
    """Fetch the model's files to the folder; returns their names.

    Raises:
        CannotFetch: it is not there, or may not be read.
    """
    found = fetch_from_s3(model, folder) if model.startswith(S3) else fetch_from_hub(model, revision, folder)
    if "config.json" not in found:
        raise CannotFetch(f"{model} holds no model: there is no config.json among its {len(found)} files")
    return found


def fetch_from_s3(place: str, folder: Path) -> list[str]:
    """Fetch all files below a folder in S3."""
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = place.removeprefix(S3).partition("/")
    prefix = f"{prefix.strip('/')}/"
    try:
        s3: Any = boto3.client("s3")
        names = []
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", ()):
                name = entry["Key"].removeprefix(prefix)
                if not name or name.endswith("/"):  # a folder, as S3's console makes them
                    continue
                file = folder / name
                if not file.resolve().is_relative_to(folder.resolve()):
                    raise CannotFetch(f"s3://{bucket}/{entry['Key']} would be written outside {folder}")
                names.append(name)
                if not (file.is_file() and file.stat().st_size == entry["Size"]):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    s3.download_file(bucket, entry["Key"], str(file))
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise CannotFetch(f"{place} cannot be read: {error}") from error
    return names


def fetch_from_hub(model: str, revision: str, folder: Path) -> list[str]:
    """Fetch a model of the Hugging Face hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot_download(model, revision=revision, local_dir=folder, ignore_patterns=list(UNUSED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CannotFetch(f"{model} at {revision} cannot be downloaded: {error}") from error
    return [
        str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and ".cache" not in file.relative_to(folder).parts
    ]


def main(arguments: list[str]) -> str:
    """Fetch what the arguments name; returns a sentence about it."""
    model, revision, folder = arguments
    found = fetch(model, revision, Path(folder))
    size = sum((Path(folder) / name).stat().st_size for name in found)
    return f"{model}: {len(found)} files, {size / 1e9:.2f} GB"


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]), flush=True)
    except CannotFetch as error:
        sys.exit(str(error))
