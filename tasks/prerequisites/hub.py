"""The model and the base images: whether this target's token opens the one, and whether the others are there."""

from __future__ import annotations

import os
import re

import urllib3
from pydantic import SecretStr

from blocks.errors import PipelineError
from blocks.parameters import Engine, Service
from blocks.target import Target
from drills.kubernetes import manifests
from tasks.images.publish import recipes
from tasks.images.registry import TIMEOUT_S, Repository, ecr_login, pool
from tasks.support.checks import Check

HUB = "https://huggingface.co"
HUB_VARIABLE = "HF_ENDPOINT"
"""Environment variable with another address of the hub, as its own client reads it."""
_ECR = re.compile(r"^[0-9]+\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com")


def model_of(engine: Engine) -> str:
    """Name of the model that the engine's workers download from the hub; empty: they download none."""
    (fragment,) = manifests.load(f"engine-{engine}", {"worker_image": ""})
    (group,) = fragment["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    commands = [container.get("command", ()) for container in group["template"]["spec"].get("initContainers", ())]
    return next((str(command[2]) for command in commands if list(command[:2]) == ["huggingface-cli", "download"]), "")


def check_model(model: str, token: SecretStr | None) -> Check:
    """Check that the token opens the model, by asking for its configuration as a worker will."""
    if not model:
        return Check("model", "ok", "the engine downloads none")
    if token is None:
        return Check("model", "bad", f"the workers download {model}: give the target hf_token, a token of the hub that may read it")
    url = f"{os.environ.get(HUB_VARIABLE, HUB).rstrip('/')}/{model}/resolve/main/config.json"
    try:
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        status = pool(url).request("HEAD", url, headers=headers, timeout=TIMEOUT_S, retries=False, redirect=False).status
    except urllib3.exceptions.HTTPError as error:
        return Check("model", "not checked", f"the hub does not answer here: {type(error).__name__}")
    if status in (401, 403):
        return Check("model", "bad", f"the hub answers {status} for {model}: hf_token is wrong, or its owner has not accepted the licence")
    if status == 404:
        return Check("model", "bad", f"the hub has no model {model}, or hf_token may not see it")
    if status >= 400:
        return Check("model", "not checked", f"the hub answers {status} for {model}")
    return Check("model", "ok", f"hf_token opens {model}")


def check_bases(target: Target, service: Service) -> Check:
    """Check that the bases of the images that will be built are in their registries."""
    if target.images.ready:
        return Check("base images", "ok", "not needed: the target has a ready image")
    bases = {recipe.base_reference for recipe in recipes(target.engine_of(service), target.images, chat=service.chat).values()}
    asked = {base: _look_up(base, target) for base in sorted(bases) if "-archive:" not in base}
    if absent := [base for base, found in asked.items() if found is False]:
        return Check("base images", "bad", f"no such image: {', '.join(absent)}; for neuron mirror AWS's image and set neuron_base_image")
    if unknown := [f"{base} ({found})" for base, found in asked.items() if isinstance(found, str)]:
        return Check("base images", "not checked", "; ".join(unknown))
    return Check("base images", "ok", ", ".join(asked) or "archives on this machine")


def _look_up(base: str, target: Target) -> bool | str:
    """Whether the image is in its registry, or why that could not be asked."""
    host, name, version = split_reference(base)
    try:
        login = ecr_login(target.session()) if _ECR.match(host) else ""
        return Repository(host, name, host in target.images.plain_http, login).digest(version, anonymous=not login) is not None
    except PipelineError as error:
        return " ".join(str(error).split())[:200]


def split_reference(reference: str) -> tuple[str, str, str]:
    """Host, name, and tag or digest of an image reference, with Docker's defaults."""
    host, slash, name = reference.partition("/")
    if not slash or not re.search(r"[.:]|^localhost$", host):
        host, name = "docker.io", reference
    name, at, digest = name.partition("@")
    bare, _, tag = name.rpartition(":") if ":" in name else (name, "", "latest")
    if host == "docker.io":
        host, bare = "registry-1.docker.io", bare if "/" in bare else f"library/{bare}"
    return host, bare, digest if at else tag
