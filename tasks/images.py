"""The images of the service: built when their content changed, pushed when the registry does not have them, used by digest."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_table_artifact
from pydantic import BaseModel

from blocks.errors import Permanent
from tasks._builder import Builder, Kind, content_key
from tasks._registry import Repository, ecr_login
from tasks.progress import Progress
from tasks.site import Site
from tasks.step import step

KINDS: tuple[Kind, ...] = ("serving", "chat")


class ImageRefs(BaseModel, frozen=True):
    """References that nodes can pull, by digest where we pushed them."""

    serving: str
    chat: str | None = None
    """None: the target's ready image has no chat."""


class NoRepository(Permanent):
    """There is no image, and nowhere to push one to."""


def local_name(kind: Kind, key: str) -> str:
    """An image's name in the builder's own store."""
    return f"localhost/leeward/{kind}:{key}"


def build(builder: Builder, kind: Kind, base: str, key: str, progress: Progress) -> str:
    """The image is in the builder's store; returns its name there. Nothing is done when it was."""
    local = local_name(kind, key)
    if not builder.has(local):
        progress.say(0, f"building the {kind} image with {builder.program}")
        builder.build(kind, base, local, lambda n, of, what: progress.say(90 * (n - 1) / of, f"{kind} image, step {n} of {of}: {what}"))
    return local


def publish(builder: Builder, kind: Kind, base: str, key: str, repository: Repository, progress: Progress) -> str:
    """The image is in the repository; returns its reference by digest. Nothing is done when it was."""
    tag = f"{kind}-{key}"
    found = repository.digest(tag)
    if found is None:
        local = build(builder, kind, base, key, progress)
        progress.say(90, f"pushing the {kind} image to {repository.host}")
        builder.push(local, repository, tag, lambda line: progress.say(None, f"{kind} image: {line}"))
        found = repository.digest(tag)
    if found is None:
        raise Permanent(f"{repository!r} does not have {tag} although it was pushed; is something else cleaning that repository up?")
    return repository.reference(found)


@step("build images", deadline_s=None, retries=1)
def build_images(site: Site, kinds: Sequence[Kind] = KINDS) -> str:
    """The images are in the local store; returns the key of their content. Worth doing while something else is waited for."""
    images = site.block.images
    if images.ready:
        return images.ready
    key, builder, progress = content_key(images.base), Builder.found(images.builder), Progress("image-build")
    for kind in kinds:
        build(builder, kind, images.base, key, progress)
    progress.say(100, f"images are built: {key}")
    return key


@step("publish images", deadline_s=3700, retries=2)
def publish_images(site: Site, repository_url: str | None, kinds: Sequence[Kind] = KINDS) -> ImageRefs:
    """The cluster can pull the images; returns their references."""
    target = site.block
    images = target.images
    if images.ready:
        return ImageRefs(serving=images.ready)
    if not repository_url:
        raise NoRepository(f"target {site.target!r} has no repository of its own: give it a ready serving image")
    repository = Repository.of(repository_url, images.plain_http, ecr_login(target.session()))
    key, builder, progress = content_key(images.base), Builder.found(images.builder), Progress("image-push")
    found = {kind: publish(builder, kind, images.base, key, repository, progress) for kind in kinds}
    progress.say(100, "images are in the registry")
    create_table_artifact(key="images", table=[{"image": kind, "reference": ref} for kind, ref in found.items()])
    return ImageRefs(**found)
