"""The model and the base images: whether the workers can have the one, and whether the others are there."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

import urllib3
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from blocks.errors import PipelineError
from blocks.parameters import Service
from blocks.target import Target
from tasks.images.publish import recipes
from tasks.images.registry import TIMEOUT_S, Repository, ecr_login, pool
from tasks.service.engines import Checkpoint, checkpoint
from tasks.support.checks import Check

HUB = "https://huggingface.co"
HUB_VARIABLE = "HF_ENDPOINT"
"""Environment variable with another address of the hub, as its own client reads it."""
_ECR = re.compile(r"^[0-9]+\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com")


def check_model(target: Target, service: Service) -> Check:
    """Check that the workers can have the model, by asking for its configuration as they will."""
    wanted = checkpoint(target.engine_of(service), service.model, service.revision)
    if wanted is None:
        return Check("model", "ok", "it is in the workers' image")
    return _in_s3(target, wanted) if wanted.bucket else _in_the_hub(wanted, target.hf_token)


def _in_the_hub(wanted: Checkpoint, token: SecretStr | None) -> Check:
    url = f"{os.environ.get(HUB_VARIABLE, HUB).rstrip('/')}/{wanted.model}/resolve/{quote(wanted.revision, safe='')}/config.json"
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    what = f"{wanted.model} at {wanted.revision}"
    remedy = (
        "hf_token is wrong, or its owner has not accepted the licence" if token else "give the target hf_token, a token that may read it"
    )
    try:
        status = pool(url).request("HEAD", url, headers=headers, timeout=TIMEOUT_S, retries=False, redirect=False).status
    except urllib3.exceptions.HTTPError as error:
        if token is None:
            return Check("model", "bad", f"the workers download {what}, and whether it is open to all could not be asked: {remedy}")
        return Check("model", "not checked", f"the hub does not answer here: {type(error).__name__}")
    if status in (401, 403):
        return Check("model", "bad", f"the hub answers {status} for {what}: {remedy}")
    if status == 404:
        return Check("model", "bad", f"the hub has no {what}, or it is hidden: {remedy}")
    if status >= 400:
        return Check("model", "not checked", f"the hub answers {status} for {what}")
    return Check("model", "ok", f"{'hf_token opens' if token else 'everybody may download'} {what}")


def _in_s3(target: Target, wanted: Checkpoint) -> Check:
    """The target's role need not read what the workers read: only what is not there is refused."""
    if target.aws is None:
        return Check("model", "not checked", f"the target has no AWS to ask for {wanted.model}")
    key = f"{wanted.model.removeprefix(f's3://{wanted.bucket}/')}/config.json"
    try:
        target.client("s3").head_object(Bucket=wanted.bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return Check("model", "bad", f"there is no s3://{wanted.bucket}/{key}")
        return Check("model", "not checked", f"S3 answers {error.response['Error']['Code']} for {wanted.model}")
    except BotoCoreError as error:
        return Check("model", "not checked", f"S3 could not be asked: {type(error).__name__}")
    return Check("model", "ok", wanted.model)


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
