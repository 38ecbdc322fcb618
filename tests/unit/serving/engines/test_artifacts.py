"""Compiled artifacts are whole or not there, in a folder and in a real S3 endpoint alike."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from serving.engines.neuron.artifacts import MANIFEST, Damaged, S3Store, Store, key_of, store_at

if TYPE_CHECKING:
    from embedded_aws import EmbeddedAws

_numbers = itertools.count()
KEY = key_of({"slots": 8})


@pytest.fixture
def s3(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client, and an environment in which boto3 finds the same endpoint."""
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
    """A bucket of its own."""
    name = f"graphs{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind of store, empty."""
    if request.param == "folder":
        return store_at(str(tmp_path / "store"))
    return store_at(f"s3://{request.getfixturevalue('bucket')}/some/prefix/", cache=tmp_path / "cache")


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """What a compilation leaves."""
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


def test_what_was_published_is_fetched(store: Store, compiled: Path) -> None:
    assert (store.has(KEY), store.fetch(KEY)) == (False, None)
    assert store.publish(KEY, compiled)
    assert store.has(KEY)
    assert _content(store.fetch(KEY)) == _content(compiled)


def test_what_is_there_stays_as_it_is(store: Store, compiled: Path, tmp_path: Path) -> None:
    store.publish(KEY, compiled)
    assert not store.publish(KEY, _graphs(tmp_path / "others", b"another"))
    assert _content(store.fetch(KEY)) == _content(compiled)


def test_another_key_is_not_there(store: Store, compiled: Path) -> None:
    store.publish(KEY, compiled)
    assert store.fetch(key_of({"slots": 9})) is None


def test_of_many_that_publish_at_once_one_stands_and_nothing_is_mixed(store: Store, tmp_path: Path) -> None:
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
    """Its process ends when all files are there and the manifest is not."""

    def _put_manifest(self, key: str, manifest: dict[str, Any]) -> bool:
        raise KeyboardInterrupt


def test_an_upload_that_broke_off_is_not_there_and_does_not_hinder_the_next(s3: Any, bucket: str, compiled: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Interrupted(bucket, "", tmp_path / "cache").publish(KEY, compiled)
    assert len(_objects(s3, bucket)) == len(_content(compiled))
    store = S3Store(bucket, "", tmp_path / "cache")
    assert (store.has(KEY), store.fetch(KEY)) == (False, None)
    assert store.publish(KEY, compiled)
    assert _content(store.fetch(KEY)) == _content(compiled)


def test_who_comes_second_takes_its_files_away_again(s3: Any, bucket: str, compiled: Path, tmp_path: Path) -> None:
    class Late(S3Store):
        """Looked before the other's manifest came."""

        def has(self, key: str) -> bool:
            return False

    S3Store(bucket, "", tmp_path / "cache").publish(KEY, compiled)
    before = _objects(s3, bucket)
    assert not Late(bucket, "", tmp_path / "cache").publish(KEY, compiled)
    assert _objects(s3, bucket) == before


@pytest.mark.parametrize("harm", [b"", b"graph" * 999 + b"grapf"])
def test_a_file_that_is_not_what_was_put_there_is_refused_and_not_kept(
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


def test_what_was_downloaded_once_is_not_downloaded_again(s3: Any, bucket: str, compiled: Path, tmp_path: Path) -> None:
    store = S3Store(bucket, "", tmp_path / "cache")
    store.publish(KEY, compiled)
    first = store.fetch(KEY)
    for name in _objects(s3, bucket):
        s3.delete_object(Bucket=bucket, Key=name)
    assert store.fetch(KEY) == first
    assert _content(first) == _content(compiled)


def test_a_bucket_that_is_not_there_is_an_error_and_not_an_absence(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="NoSuchBucket"):
        S3Store("no-such-bucket", "", tmp_path).fetch(KEY)


def test_a_key_depends_on_every_value_and_not_on_their_order() -> None:
    assert key_of({"a": 1, "b": (2, 3)}) == key_of({"b": [2, 3], "a": 1})
    assert len({key_of({"a": value}) for value in (1, "1", (1,), None, True, 1.5)}) == 6


@pytest.mark.parametrize("place", ["https://bucket/x", "s3://", "s3:///prefix"])
def test_a_place_of_another_kind_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/prefix"):
        store_at(place)
