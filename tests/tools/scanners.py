"""Scanners of others in locked versions (scanners_pinned/): checkov and bandit, kubeconform and kube-score.

tflint is not among them: its Go module has a thousand packages, which take minutes to compile. Without its AWS rules, which come as a
binary from elsewhere, it repeats `terraform validate`.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

from localcloud import paths
from localcloud.build import binaries, toolchain
from localcloud.build.cache import Cache, Recipe, Workspace
from localcloud.progress import Report
from scripts import tools
from scripts.support.paths import ROOT

PINNED = Path(__file__).parent / "scanners_pinned"
WITHIN_S = 600.0
GO = {
    name: binaries.Binary(name, PINNED, package=f"{module}/cmd/{name}", main=f"{module}/cmd/{name}")
    for name, module in (("kubeconform", "github.com/yannh/kubeconform"), ("kube-score", "github.com/zegl/kube-score"))
}
KUBERNETES_SCHEMA = "api/openapi-spec/swagger.json"
Object = dict[str, Any]


class Finding(NamedTuple):
    """What a scanner says about one place."""

    rule: str
    place: str
    text: str


class Explained(NamedTuple):
    """A line of the file of exceptions."""

    rule: str
    places: tuple[str, ...]
    """Patterns of the places that it is about."""
    why: str

    def covers(self, finding: Finding) -> bool:
        """Whether the exception is about that finding."""
        return finding.rule == self.rule and any(fnmatchcase(finding.place, pattern) for pattern in self.places)


def exceptions(scanner: str) -> list[Explained]:
    """Return the exceptions that the project makes from a scanner's rules."""
    lines = yaml.safe_load((PINNED / "exceptions.yaml").read_text(encoding="utf-8"))[scanner] or ()
    return [Explained(line["rule"], tuple(line.get("in", ["*"])), line["why"]) for line in lines]


def bandit(folders: Iterable[Path], root: Path = ROOT) -> list[Finding]:
    """Scan the Python files of these folders."""
    found = json.loads(_python("bandit", "--quiet", "--recursive", "--format", "json", *folders))
    assert not found["errors"], found["errors"]
    return [
        Finding(one["test_id"], str(Path(one["filename"]).relative_to(root)), f"line {one['line_number']}: {one['issue_text']}")
        for one in found["results"]
    ]


def checkov(folder: Path, framework: str) -> list[Finding]:
    """Scan a folder with texts of Terraform, Kubernetes or `NAME.Dockerfile`."""
    options = ("--framework", framework, "--quiet", "--compact", "--output", "json", "--skip-download")
    said = _python("checkov.main", "--directory", folder, *options)
    reports = json.loads(said)
    reports = reports if isinstance(reports, list) else [reports]
    assert all("summary" in report for report in reports), f"checkov found nothing to look at in {folder}: {said}"
    assert not any(report["summary"]["parsing_errors"] for report in reports), said
    return [Finding(one["check_id"], _place(one), one["check_name"]) for report in reports for one in report["results"]["failed_checks"]]


def _place(check: Mapping[str, Any]) -> str:
    """A resource, or a file that is one resource."""
    resource = str(check["resource"])
    return Path(check["file_path"]).name if resource.startswith("/") else resource


def kube_score(objects: Sequence[Object], folder: Path) -> list[Finding]:
    """Scan Kubernetes objects of Kubernetes' own kinds."""
    file = _written(objects, folder)
    said = _run([_go("kube-score"), "score", "--output-format", "json", "--kubernetes-version", "v1.35", file], accepted=(0, 1))
    return [
        Finding(check["check"]["id"], f"{one['object_name']}", "; ".join(f"{c['path']} {c['summary']}" for c in check["comments"] or ()))
        for one in json.loads(said)
        for check in one["checks"]
        if not check["skipped"] and check["grade"] < 10
    ]


def kubeconform(objects: Sequence[Object], schemas: Path, folder: Path) -> list[Finding]:
    """Compare objects with the schemas of their kinds."""
    file = _written(objects, folder)
    location = f"{schemas}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"
    said = _run([_go("kubeconform"), "-output", "json", "-verbose", "-schema-location", location, file], accepted=(0, 1))
    return [
        Finding(one["status"], f"{one['kind']}/{one['name']}", one["msg"])
        for one in json.loads(said)["resources"]
        if one["status"] != "statusValid"
    ]


def write_schemas(folder: Path, kubernetes: Path, crds: Iterable[Object], kinds: set[str]) -> None:
    """Write a strict schema for each of the kinds: of Kubernetes itself from its OpenAPI document, of others from their CRDs."""
    definitions = json.loads(kubernetes.read_text(encoding="utf-8"))["definitions"]
    for definition in definitions.values():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            if kind["kind"] in kinds:
                _write_schema(folder, kind["group"], kind["version"], kind["kind"], _inlined(definition, definitions))
    for crd in (crd for crd in crds if crd["spec"]["names"]["kind"] in kinds):
        for version in crd["spec"]["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            _write_schema(folder, crd["spec"]["group"], version["name"], crd["spec"]["names"]["kind"], _inlined(schema, {}))


def _write_schema(folder: Path, group: str, version: str, kind: str, schema: Object) -> None:
    target = folder / (group or version) / f"{kind.lower()}_{version}.json"  # as kubeconform names the group of `v1`
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(schema), encoding="utf-8")


def _inlined(schema: Any, definitions: Mapping[str, Any], inside: frozenset[str] = frozenset()) -> Any:
    """Return the schema without references, and without room for fields that it does not name."""
    if isinstance(schema, list):
        return [_inlined(item, definitions, inside) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.removeprefix("#/definitions/")
        if name in inside or name.endswith((".JSON", ".RawExtension")):
            return {}
        if name.endswith(".Quantity"):
            return {"type": ["string", "number"]}
        return _inlined(definitions[name], definitions, inside | {name})
    if schema.get("format") == "int-or-string" or "x-kubernetes-int-or-string" in schema:
        return {"type": ["string", "integer"]}
    made = {key: _inlined(value, definitions, inside) for key, value in schema.items() if key != "description"}
    if isinstance(made.get("properties"), dict) and "type" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def _written(objects: Sequence[Object], folder: Path) -> Path:
    file = folder / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    return file


def _python(module: str, *arguments: str | Path) -> str:
    """Run a scanner of Python, which ends with 1 when it found something. It keeps nothing, and looks for no newer version."""
    with TemporaryDirectory() as home:
        environment = {"PYTHONPATH": str(_packages()), "PATH": "/usr/bin:/bin", "HOME": home, "PYTHONUTF8": "1"}
        environment["CKV_SKIP_PACKAGE_UPDATE_CHECK"] = "true"
        return _run([sys.executable, "-P", "-W", "ignore", "-m", module, *arguments], accepted=(0, 1), env=environment)


def _run(command: Sequence[str | Path], accepted: Sequence[int], **options: Any) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False, **options)
    assert done.returncode in accepted, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def _packages() -> Path:
    """A folder with the locked Python packages, apart from the project's: they disagree about versions."""
    locked = PINNED / "requirements.txt"

    def install(work: Workspace, report: Report) -> None:
        options = ["--python", sys.executable, "--target", work.out, "--require-hashes", "--requirement", locked]
        subprocess.run([tools.uv(), "pip", "install", "--quiet", "--compile-bytecode", *options], check=True, timeout=WITHIN_S)

    inputs = (("requirements", locked.read_text(encoding="utf-8")), ("python", platform.python_version()), ("machine", platform.machine()))
    return Cache(paths.artifacts_dir()).get(Recipe("scanners", inputs, install), _say).path


def _go(name: str) -> Path:
    artifacts = Cache(paths.artifacts_dir())
    go = toolchain.find(artifacts)
    if go.recipe:
        artifacts.get(go.recipe, _say)
    return artifacts.get(binaries.recipe(GO[name], go), _say).path / name


def _say(text: str) -> None:
    print(text, file=sys.stderr)
