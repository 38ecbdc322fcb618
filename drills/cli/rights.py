"""`leeward rbac`: the rights of a drill as YAML."""

from __future__ import annotations

import argparse

import yaml

from drills.cli.definition import page
from drills.kubernetes import rights
from drills.kubernetes.api import Object
from drills.runner.faults import needs


def run(options: argparse.Namespace) -> int:
    """Print ServiceAccount, roles and bindings; return the exit code."""
    drill = page(options.page)
    metadata = {"name": options.account, "namespace": options.namespace}
    objects: list[Object] = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}]
    for role in rights.role(f"leeward-{drill.name}", options.namespace, rights.rules_for(needs(drill.faults), options.ray_token)):
        objects += [role, rights.binding(role, options.account, options.namespace)]
    print(yaml.safe_dump_all(objects, sort_keys=False), end="")
    return 0
