"""Scanners of others find nothing in the code, in terraform/, in manifests/ and in the Containerfiles that scanners_pinned/exceptions.yaml
does not explain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import scanners
import yaml
from manifest_values import FRAGMENTS, VALUES
from pydantic import SecretStr
from scanners import Finding

from blocks.parameters import ENGINES, Scaling, Service
from drills.kubernetes import manifests
from localcloud import paths
from scripts.support.paths import ROOT
from tasks.cluster.redis import Redis
from tasks.service import rayservice
from tasks.service.preflight import IMAGES
from tasks.support import gomodule

Object = dict[str, Any]
PYTHON = ("benchmarks", "blocks", "drills", "flows", "localcloud", "scripts", "serving", "startup", "tasks")
POD_KIND = {"apiVersion": "apps/v1", "kind": "Deployment"}


def services() -> list[Object]:
    """The RayService with each engine and everything that can be merged into it, and what goes with it."""
    redis = Redis("redis", 6379, SecretStr("x" * 16), "PEM")
    full = Service(workers=2, scaling=Scaling(max_workers=4))
    shared = Service(workers=2, workers_per_node=2)
    made: dict[str, Object] = {}
    for engine in ENGINES:
        for name, service in (("", full), ("-shared", shared)):
            for thing in rayservice.render(service, engine, IMAGES, redis, SecretStr("t"), "s3://b/compiled"):
                thing["metadata"]["name"] += f"-{engine}{name}" if thing["kind"] == "RayService" else ""
                made[f"{thing['kind']} {thing['metadata']['name']}"] = thing
    return list(made.values())


def objects() -> list[Object]:
    """Every object that the pipeline applies."""
    rest = [thing for name in VALUES if name not in (*FRAGMENTS, "rayservice") for thing in manifests.load(name, VALUES[name])]
    return [*services(), *rest]


def core_objects() -> list[Object]:
    """The objects of Kubernetes' own kinds, and the pods of the RayService as Deployments, because scanners know no RayService."""
    found = [thing for thing in objects() if not is_custom(thing)]
    for service in (thing for thing in objects() if thing["kind"] == "RayService"):
        cluster = service["spec"]["rayClusterConfig"]
        name = service["metadata"]["name"]
        for part, group in (("head", cluster["headGroupSpec"]), ("worker", cluster["workerGroupSpecs"][0])):
            metadata = {"name": f"{name}-{part}", "namespace": service["metadata"]["namespace"], "labels": service["metadata"]["labels"]}
            labels = {**group["template"]["metadata"]["labels"], "ray.io/cluster": name, "ray.io/node-type": part}  # as KubeRay adds them
            template = {"metadata": {**group["template"]["metadata"], "labels": labels}, "spec": group["template"]["spec"]}
            found.append({**POD_KIND, "metadata": metadata, "spec": {"selector": {"matchLabels": labels}, "template": template}})
    return found


def is_custom(thing: Object) -> bool:
    return thing["apiVersion"].partition("/")[0] in ("ray.io", "karpenter.sh", "karpenter.k8s.aws")


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Schemas of the Kubernetes that the embedded cloud runs, of KubeRay and of Karpenter."""
    if which("go") is None:
        pytest.skip("there is no go on the PATH to fetch the CRDs with")
    folder = tmp_path_factory.mktemp("schemas")
    kubernetes = gomodule.fetch("k8s.io/kubernetes", str(paths.GO_DIR / "kubernetes")).folder / scanners.KUBERNETES_SCHEMA
    kuberay = gomodule.fetch("github.com/ray-project/kuberay/ray-operator", "kuberay").objects("config/crd/bases/*.yaml")
    karpenter = gomodule.fetch("github.com/aws/karpenter-provider-aws", "karpenter").objects("pkg/apis/crds/*.yaml")
    scanners.write_schemas(folder, kubernetes, [*kuberay, *karpenter], {thing["kind"] for thing in objects()})
    return folder


def scan_manifests(folder: Path) -> list[Finding]:
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(core_objects()), encoding="utf-8")
    return scanners.checkov(folder, "kubernetes")


def scan_images(folder: Path) -> list[Finding]:
    """Under the name by which checkov knows such files."""
    for file in (ROOT / "serving" / "images").glob("*Containerfile"):
        (folder / f"{file.name}.Dockerfile").write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    return scanners.checkov(folder, "dockerfile")


SCANS: dict[str, Callable[[Path], list[Finding]]] = {
    "bandit": lambda _: scanners.bandit([ROOT / folder for folder in PYTHON]),
    "checkov-terraform": lambda _: scanners.checkov(ROOT / "terraform", "terraform"),
    "checkov-dockerfile": scan_images,
    "checkov-kubernetes": scan_manifests,
    "kube-score": lambda folder: scanners.kube_score(core_objects(), folder),
}


@pytest.mark.parametrize("scanner", SCANS)
def test_every_finding_is_explained_and_every_explanation_is_needed(scanner: str, tmp_path: Path) -> None:
    check(scanner, SCANS[scanner](tmp_path))


def test_every_object_has_the_form_of_its_kind(schemas: Path, tmp_path: Path) -> None:
    check("kubeconform", scanners.kubeconform(objects(), schemas, tmp_path))


def check(scanner: str, findings: list[Finding]) -> None:
    exceptions = scanners.exceptions(scanner)
    unexplained = [finding for finding in findings if not any(one.covers(finding) for one in exceptions)]
    assert not unexplained, "\n".join(f"{f.rule} {f.place}: {f.text}" for f in unexplained)
    unneeded = [one for one in exceptions if not any(one.covers(finding) for finding in findings)]
    assert not unneeded


def test_a_planted_fault_is_found(schemas: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import subprocess, sys\nsubprocess.call(sys.argv[1], shell=True)\n")
    assert "B602" in {finding.rule for finding in scanners.bandit([tmp_path], tmp_path)}
    pod = manifests.load("chat", VALUES["chat"])[0]
    pod["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
    assert "container-security-context-privileged" in {finding.rule for finding in scanners.kube_score([pod], tmp_path)}
    assert "CKV_K8S_16" in {finding.rule for finding in scanners.checkov(tmp_path, "kubernetes")}, "kube-score left objects.yaml there"
    service = services()[-1]
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["tolerationz"] = []
    (found,) = scanners.kubeconform([service], schemas, tmp_path)
    assert "tolerationz" in found.text
