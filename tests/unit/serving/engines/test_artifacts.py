"""Compiled artifacts are complete or absent, in a folder and in a real S3 endpoint alike."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from serving.engines.artifacts import MANIFEST, Damaged, S3Store, Store, key_of, store_at

if TYPE_CHECKING:
    from embedded_aws import EmbeddedAws

_numbers = itertools.count()
KEY = key_of({"slots": 8})


@pytest.fixture
def s3(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an S3 client, and set the environment so that boto3 finds the same endpoint."""
    settings = {
        "AWS_ENDPOINT_URL": aws.endpoint.url,
        "AWS_ACCESS_KEY_ID": aws.first.access_key_id,
        "AWS_SECRET_ACCESS_KEY": aws.first.secret_access_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")


@pytest.fixture
def bucket(s3: Any) -> str:
    """Create a bucket for this test."""
    name = f"graphs{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return an empty store of each kind."""
    if request.param == "folder":
        return store_at(str(tmp_path / "store"))
    return store_at(f"s3://{request.getfixturevalue('bucket')}/some/prefix/", cache=tmp_path / "cache")


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """Write the files of a compilation."""
    return _graphs(tmp_path / "compiled", b"graph")


def _graphs(folder: Path, content: bytes) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "one.neff").write_bytes(content * 1000)
    (folder / "deep" / MANIFEST).write_bytes(content)
    return folder


def _content(folder: Path | None) -> dict[str, bytes]:
    assert folder
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _objects(s3: Any, bucket: str) -> set[str]:
    return {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}


def test_published_artifacts_are_fetched_as_they_were(store: Store, compiled: Path) -> None:
    assert (store.has(KEY), store.fetch(KEY)) == (False, None)
    assert store.publish(KEY, compiled)
    assert store.has(KEY)
    assert _content(store.fetch(KEY)) == _content(compiled)


def test_a_published_key_keeps_its_first_content(store: Store, compiled: Path, tmp_path: Path) -> None:
    store.publish(KEY, compiled)
    assert not store.publish(KEY, _graphs(tmp_path / "others", b"another"))
    assert _content(store.fetch(KEY)) == _content(compiled)


def test_a_key_that_was_not_published_is_absent(store: Store, compiled: Path) -> None:
    store.publish(KEY, compiled)
    assert store.fetch(key_of({"slots": 9})) is None


def test_of_many_uploads_at_once_exactly_one_is_kept_and_files_are_not_mixed(store: Store, tmp_path: Path) -> None:
    folders = [_graphs(tmp_path / str(n), str(n).encode()) for n in range(6)]
    ours: list[Path] = []
    barrier = threading.Barrier(len(folders))

    def publish(folder: Path) -> None:
        barrier.wait()
        if store.publish(KEY, folder):
            ours.append(folder)

    threads = [threading.Thread(target=publish, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = ours
    assert _content(store.fetch(KEY)) == _content(winner)


class Interrupted(S3Store):
    """A store that fails after all files were uploaded, before the manifest."""

    def _put_manifest(self, key: str, manifest: dict[str, Any]) -> bool:
        raise KeyboardInterrupt


def test_an_interrupted_upload_is_absent_and_does_not_prevent_the_next_one(s3: Any, bucket: str, compiled: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Interrupted(bucket, "", tmp_path / "cache").publish(KEY, compiled)
    assert len(_objects(s3, bucket)) == len(_content(compiled))
    store = S3Store(bucket, "", tmp_path / "cache")
    assert (store.has(KEY), store.fetch(KEY)) == (False, None)
    assert store.publish(KEY, compiled)
    assert _content(store.fetch(KEY)) == _content(compiled)


def test_the_second_of_two_uploads_deletes_its_own_files(s3: Any, bucket: str, compiled: Path, tmp_path: Path) -> None:
    class Late(S3Store):
        """A store that checked for the key before the other upload's manifest was written."""

        def has(self, key: str) -> bool:
            return False

    S3Store(bucket, "", tmp_path / "cache").publish(KEY, compiled)
    before = _objects(s3, bucket)
    assert not Late(bucket, "", tmp_path / "cache").publish(KEY, compiled)
    assert _objects(s3, bucket) == before


@pytest.mark.parametrize("harm", [b"", b"graph" * 999 + b"grapf"])
def test_a_file_that_was_changed_is_refused_and_not_kept_in_the_cache(
    s3: Any, bucket: str, compiled: Path, tmp_path: Path, harm: bytes
) -> None:
    store = S3Store(bucket, "", tmp_path / "cache")
    store.publish(KEY, compiled)
    (harmed,) = (name for name in _objects(s3, bucket) if name.endswith("one.neff"))
    s3.put_object(Bucket=bucket, Key=harmed, Body=harm)
    for _ in range(2):
        with pytest.raises(Damaged, match=r"one\.neff"):
            store.fetch(KEY)
    assert list((tmp_path / "cache").iterdir()) == []


def test_artifacts_are_downloaded_only_once(s3: Any, bucket: str, compiled: Path, tmp_path: Path) -> None:
    store = S3Store(bucket, "", tmp_path / "cache")
    store.publish(KEY, compiled)
    first = store.fetch(KEY)
    for name in _objects(s3, bucket):
        s3.delete_object(Bucket=bucket, Key=name)
    assert store.fetch(KEY) == first
    assert _content(first) == _content(compiled)


def test_a_missing_bucket_is_an_error_and_not_an_absent_key(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="NoSuchBucket"):
        S3Store("no-such-bucket", "", tmp_path).fetch(KEY)


def test_a_key_depends_on_every_value_and_not_on_their_order() -> None:
    assert key_of({"a": 1, "b": (2, 3)}) == key_of({"b": [2, 3], "a": 1})
    assert len({key_of({"a": value}) for value in (1, "1", (1,), None, True, 1.5)}) == 6


@pytest.mark.parametrize("place", ["https://bucket/x", "s3://", "s3:///prefix"])
def test_a_store_at_another_kind_of_url_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/prefix"):
        store_at(place)
