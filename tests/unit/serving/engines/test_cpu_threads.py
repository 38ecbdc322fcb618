"""The number of cores that a process may use, from files as kernels and container runtimes lay them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.engines.cpu.threads import allowed_cores

V1 = "12:cpu,cpuacct:{0}\n3:memory:{0}\n0::/\n"
V2 = "0::{0}\n"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the CPU affinity to eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def tree(root: Path, lines: str, files: dict[str, str]) -> Path:
    """Write a machine's proc and sys."""
    for name, content in {"proc/self/cgroup": lines, **{f"sys/fs/cgroup/{name}": content for name, content in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def v1(group: str, quota: str) -> dict[str, str]:
    return {f"cpu,cpuacct/{group}/cpu.cfs_quota_us": f"{quota}\n", f"cpu,cpuacct/{group}/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        pytest.param(V2.format("/"), {"cpu.max": "200000 100000\n"}, 2, id="v2 in a container"),
        pytest.param(V2.format("/pods/one"), {"pods/one/cpu.max": "max 100000\n", "pods/cpu.max": "300000 100000\n"}, 3, id="v2 above"),
        pytest.param(V2.format("/pods/one"), {"pods/one/cpu.max": "100000 100000\n", "pods/cpu.max": "300000 100000\n"}, 1, id="v2 least"),
        pytest.param(V2.format("/"), {"cpu.max": "150000 100000\n"}, 2, id="a core and a half"),
        pytest.param(V2.format("/"), {"cpu.max": "1000 100000\n"}, 1, id="hardly any"),
        pytest.param(V2.format("/"), {"cpu.max": "max 100000\n"}, 8, id="v2 without a limit"),
        pytest.param(V2.format("/"), {"cpu.max": "9900000 100000\n"}, 8, id="more than there are"),
        pytest.param(V1.format("/kubepods/x"), v1("kubepods/x", "400000"), 4, id="v1 on the node"),
        pytest.param(V1.format("/kubepods/x"), v1(".", "200000"), 2, id="v1 in a container"),
        pytest.param(V1.format("/kubepods/x"), v1("kubepods/x", "-1"), 8, id="v1 without a limit"),
        pytest.param("7:cpuset:/\n", {"cpuset/cpu.max": "100000 100000\n"}, 8, id="another controller's"),
        pytest.param(V2.format("/../../odd"), {}, 8, id="a group outside the mount"),
    ],
)
def test_the_limit_of_the_control_group_is_used(tmp_path: Path, lines: str, files: dict[str, str], cores: int) -> None:
    assert allowed_cores(tree(tmp_path, lines, files)) == cores


def test_without_control_groups_the_cpu_affinity_is_used(tmp_path: Path) -> None:
    assert allowed_cores(tmp_path) == 8


def test_this_process_may_use_at_least_one_core() -> None:
    assert allowed_cores() >= 1
