"""The images of the service: built when their content changed, pushed when the registry lacks them, used by digest.

Each engine has its own workers' image. The head's image must have the same Python, because Ray connects only equal versions.
"""

from __future__ import annotations

import re

from prefect.artifacts import create_table_artifact
from pydantic import BaseModel

from blocks.errors import Permanent, TimedOut
from blocks.parameters import Engine, Service
from blocks.target import Images
from drills.runner.waiting import Pending, Until
from tasks.images.builder import BUILD_WITHIN_S, PUSH_WITHIN_S, Builder, Recipe
from tasks.images.registry import Repository, ecr_login
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

REPOSITORY_WITHIN_S = 60.0
"""Seconds. Terraform creates the repository among the first things, within seconds of its start."""


class ImageRefs(BaseModel, frozen=True):
    """References that nodes can pull; by digest for images that the pipeline pushed."""

    head: str
    """Image of the Ray head and of the load."""
    worker: str
    chat: str | None = None
    """Image of the chat. None: no chat is wanted, or the target has a ready image, which has none."""


class NoRepository(Permanent):
    """There is no ready image, and no repository to push one to."""


def recipes(engine: Engine, images: Images, *, chat: bool = True) -> dict[str, Recipe]:
    """What is to be built for a service, by the fields of `ImageRefs`.

    An engine with a Containerfile of its own has a Python of its own, too. That file names the head's base with the same Python to
    its last digit, which Ray compares: `ARG HEAD_BASE=…`. The base of its workers is NAME_base of the target's images, if there is one.
    """
    worker = Recipe(engine, images.base, images.platform)
    head = Recipe("head", images.base, images.platform)
    if named := re.search(r"^ARG HEAD_BASE=(\S+)$", worker.file.read_text(encoding="utf-8"), re.MULTILINE):
        own = str(getattr(images, f"{engine}_base", ""))
        worker, head = Recipe(engine, own, images.platform), Recipe("head", named[1], images.platform)
    found = {"head": head, "worker": worker}
    return {**found, "chat": Recipe("chat", images.base, images.platform)} if chat else found


def build_image(builder: Builder, recipe: Recipe, progress: Progress) -> str:
    """Build the image unless it is in the builder's store; returns its name there."""
    local, kind = recipe.local, recipe.kind
    if not builder.has(local):
        progress.show(0, f"building the {kind} image with {builder.program}")
        builder.build(recipe, local, lambda n, of, what: progress.show(90 * (n - 1) / of, f"{kind} image, step {n} of {of}: {what}"))
    return local


def publish_image(builder: Builder, recipe: Recipe, repository: Repository, progress: Progress) -> str:
    """Build and push the image unless it is in the repository; returns its reference by digest."""
    tag = recipe.tag
    found = repository.digest(tag)
    if found is None:
        local = build_image(builder, recipe, progress)
        progress.show(90, f"pushing the {recipe.kind} image to {repository.host}")
        builder.push(local, repository, tag, lambda line: progress.show(None, f"{recipe.kind} image: {line}"))
        found = repository.digest(tag)
    if found is None:
        raise Permanent(f"{repository!r} does not have {tag} although it was pushed; is something else cleaning that repository up?")
    return repository.reference(found)


def find_created(site: Site) -> Repository | None:
    """Wait for the stack's repository while Terraform runs; None: it is not there in time."""
    target, name = site.block, f"leeward-{site.infrastructure.name}/serving"
    ecr = target.client("ecr")

    def probe() -> str | Pending:
        try:
            return str(ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"])
        except ecr.exceptions.RepositoryNotFoundException:
            return Pending("there is none")

    try:
        url = Until(f"repository {name}", probe, REPOSITORY_WITHIN_S).wait()
    except TimedOut:
        return None
    return Repository.parse(url, target.images.plain_http, ecr_login(target.session()))


@step("build images", deadline_s=None, retries=1)
def build_images(site: Site, service: Service) -> list[str]:
    """Build the images, and push them once there is a repository; returns their local names. Run it while AWS creates the infrastructure.

    That takes longer than the push, so the deployment finds the images in the repository. It pushes what is not there.
    """
    target = site.block
    if target.images.ready:
        return []
    builder, progress = Builder.find(target.images.builder), Progress("image-build")
    wanted = recipes(target.engine_of(service), target.images, chat=service.chat).values()
    built = [build_image(builder, recipe, progress) for recipe in wanted]
    if target.provisioned and (repository := find_created(site)):
        for recipe in wanted:
            publish_image(builder, recipe, repository, progress)
    progress.show(100, f"images are built: {', '.join(built)}")
    return built


@step("publish images", deadline_s=2 * (BUILD_WITHIN_S + PUSH_WITHIN_S), retries=2)
def publish_images(site: Site, service: Service, repository_url: str | None) -> ImageRefs:
    """Push the images to where the cluster can pull them; returns their references."""
    target = site.block
    images = target.images
    if images.ready:
        return ImageRefs(head=images.ready, worker=images.ready)
    if not repository_url:
        raise NoRepository(f"target {site.target!r} has no repository of its own: give it a ready image")
    repository = Repository.parse(repository_url, images.plain_http, ecr_login(target.session()))
    builder, progress = Builder.find(images.builder), Progress("image-push")
    wanted = recipes(target.engine_of(service), images, chat=service.chat)
    found = {role: publish_image(builder, recipe, repository, progress) for role, recipe in wanted.items()}
    progress.show(100, "images are in the registry")
    create_table_artifact(key="images", table=[{"image": role, "reference": ref} for role, ref in found.items()])
    return ImageRefs(**found)
