"""The AMIs of the embedded EC2, loaded once in a process and copied for every new backend of a region.

Moto makes some 2,700 AMIs, each with a volume and a snapshot, whenever an EC2 backend is created: a quarter of a second of
CPU for every test that begins with an empty AWS. The copies cost a twentieth of that and are as good: no test sees what another did to one.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from localcloud.aws.ec2.ec2 import Ec2Backend

_Loaded = tuple[dict[str, Any], dict[str, Any]]
"""AMIs and snapshots by id."""

_load = Ec2Backend._load_amis
_loaded: dict[str, _Loaded] = {}
"""What moto loads for a region. No backend has these objects, only copies of them."""


def copy_amis(patch: pytest.MonkeyPatch) -> None:
    """Let new EC2 backends copy the AMIs of the first one in their region, until `patch` is undone."""
    patch.setattr(Ec2Backend, "_load_amis", _load_amis)


def _load_amis(backend: Any) -> None:
    if backend.region_name not in _loaded:
        _load(backend)
        _loaded[backend.region_name] = _copies((backend.amis, backend.snapshots), None)
    amis, snapshots = _copies(_loaded[backend.region_name], backend)
    backend.amis.update(amis)
    backend.snapshots.update(snapshots)


def _copies(originals: _Loaded, backend: Any) -> _Loaded:
    """Return copies that belong to `backend`; each AMI has the copy of its snapshot. The volumes were deleted and are shared."""
    amis, snapshots = ({name: _copy(one, backend) for name, one in kind.items()} for kind in originals)
    for ami in amis.values():
        ami.ebs_snapshot = snapshots[ami.ebs_snapshot.id]
    return amis, snapshots


def _copy(original: Any, backend: Any) -> Any:
    twin = copy.copy(original)
    changeable = {name: value.copy() for name, value in vars(original).items() if isinstance(value, list | set | dict)}
    vars(twin).update(changeable, ec2_backend=backend)
    return twin
