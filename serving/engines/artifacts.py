"""Compiled artifacts: folders under a key, in a folder or in S3. A key is complete or absent, and its content never changes.

    store_at("/var/cache/graphs") or store_at("s3://bucket/prefix")
    key_of({…})         everything that the artifacts depend on → the key
    store.fetch(key)    → a local folder, or None
    store.publish(key, folder)
    keep(store, key, write)     publish what `write` writes

In S3 each upload writes its files under a prefix of its own, and then the manifest, which names the prefix and the files: an upload that
was interrupted has no manifest, and of two uploads at the same time one writes the only manifest. In a folder the rename of a directory
has the same effect.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

MANIFEST = "manifest.json"

log = logging.getLogger(__name__)


class Damaged(RuntimeError):
    """The files under the key differ from those that were published."""


class Store(Protocol):
    """A place where artifacts are kept."""

    def has(self, key: str) -> bool:
        """Return whether the key is there."""

    def fetch(self, key: str) -> Path | None:
        """Return a local folder with the artifacts, which must not be changed; None if the key is not there.

        Raises:
            Damaged: the key is there, and its files are not complete.
        """

    def publish(self, key: str, folder: Path) -> bool:
        """Copy the folder's files to the key. Return False if the key exists already or another process was first; its files stay."""


def key_of(about: Mapping[str, Any]) -> str:
    """Return a key, the same for the same content; values must be of JSON's types, or tuples."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def store_at(place: str, cache: Path | None = None) -> Store:
    """Return the store at a folder or at s3://bucket/prefix. `cache`: the folder for files from S3.

    Raises:
        ValueError: the place is a URL of another kind.
    """
    scheme, separator, rest = place.partition("://")
    if not separator:
        return FolderStore(Path(place))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(f"artifacts are kept in a folder or at s3://bucket/prefix, not at {place!r}")
    return S3Store(bucket, prefix.strip("/"), cache or Path(tempfile.gettempdir(), "leeward-artifacts"))


def keep(store: Store, key: str, write: Callable[[Path], object]) -> bool:
    """Publish the files that `write` writes to a folder; return whether this call put them there."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return store.publish(key, Path(folder))


def try_to_keep(store: Store, key: str, write: Callable[[Path], object]) -> None:
    """Publish as `keep` does, and log a failure: this replica has what was computed and can go on; the next start computes it again."""
    try:
        keep(store, key, write)
    except Exception:
        log.exception("the compiled artifacts could not be stored")


class FolderStore:
    """A store in a folder, with one folder for each key."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, key: str) -> bool:
        """Return whether the key is there."""
        return (self._root / key).is_dir()

    def fetch(self, key: str) -> Path | None:
        """Return the key's folder itself; None if it is not there."""
        return self._root / key if self.has(key) else None

    def publish(self, key: str, folder: Path) -> bool:
        """Publish the folder's files; see Store."""
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._root, prefix=".new-") as new:
            return _rename(shutil.copytree(folder, Path(new, key)), self._root / key)


class S3Store:
    """A store of objects under PREFIX/KEY/; boto3 finds credentials, region and endpoint itself."""

    def __init__(self, bucket: str, prefix: str, cache: Path) -> None:
        # Imported here: only a store in S3 needs it.
        import boto3

        self._s3: Any = boto3.client("s3")
        self._bucket = bucket
        self._prefix = prefix
        self._cache = cache

    def has(self, key: str) -> bool:
        """Return whether the key is there."""
        return self._manifest(key) is not None

    def fetch(self, key: str) -> Path | None:
        """Fetch the artifacts; see Store. They are downloaded once for all processes that share the cache."""
        final = self._cache / key
        if not final.is_dir():
            manifest = self._manifest(key)
            if manifest is None:
                return None
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._cache, prefix=".new-") as new:
                for name, digest in manifest["files"].items():
                    self._download(self._name(key, manifest["upload"], name), Path(new, key, name), digest)
                _rename(Path(new, key), final)
        return final

    def publish(self, key: str, folder: Path) -> bool:
        """Publish the folder's files; see Store."""
        if self.has(key):
            return False
        upload, files = uuid.uuid4().hex, {}
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = file.relative_to(folder).as_posix()
            files[name] = _digest(file)
            self._s3.upload_file(str(file), self._bucket, self._name(key, upload, name))
        if self._put_manifest(key, {"upload": upload, "files": files}):
            return True
        for name in files:
            self._s3.delete_object(Bucket=self._bucket, Key=self._name(key, upload, name))
        return False

    def _manifest(self, key: str) -> dict[str, Any] | None:
        try:
            body = self._s3.get_object(Bucket=self._bucket, Key=self._name(key, MANIFEST))["Body"].read()
        except self._s3.exceptions.NoSuchKey:
            return None
        manifest: dict[str, Any] = json.loads(body)
        return manifest

    def _put_manifest(self, key: str, manifest: dict[str, Any]) -> bool:
        """Write the manifest unless there is one; return whether it was written."""
        from botocore.exceptions import ClientError

        body = json.dumps(manifest).encode()
        try:
            self._s3.put_object(Bucket=self._bucket, Key=self._name(key, MANIFEST), Body=body, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                return False
            raise
        return True

    def _download(self, name: str, into: Path, digest: str) -> None:
        into.parent.mkdir(parents=True, exist_ok=True)
        self._s3.download_file(self._bucket, name, str(into))
        if _digest(into) != digest:
            raise Damaged(f"s3://{self._bucket}/{name} is not what its manifest says")

    def _name(self, *parts: str) -> str:
        return "/".join(part for part in (self._prefix, *parts) if part)


def _rename(new: Path, final: Path) -> bool:
    """Give the directory its final name; return False if another process was first."""
    try:
        os.rename(new, final)
    except OSError:
        if not final.is_dir():
            raise
        return False
    return True


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        for block in iter(lambda: opened.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
