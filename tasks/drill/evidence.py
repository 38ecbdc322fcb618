"""The folder of a run's evidence, and the copy of it in the bucket."""

from __future__ import annotations

import re
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from tasks.aws.account import ensure_state_bucket, upload_folder
from tasks.support.paths import EVIDENCE
from tasks.support.site import Site
from tasks.support.step import step

LONGEST = 50
"""Characters of a run's name in the name of its folder, which may have 255 bytes; a character has up to four."""


def folder_for(name: str, run: str, root: Path = EVIDENCE) -> Path:
    """Return the folder of the run, which is the same at every call: it has the run's name, and also the id when another run has that name.

    A run may have any name; characters that no folder can have, or that would lead to another folder, become a dash.
    """
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:LONGEST] or "run"
    for folder in (root / name, root / f"{name}-{run[:8]}"):
        marker = folder / ".run"
        if not folder.exists() or (marker.exists() and marker.read_text(encoding="utf-8") == run):
            folder.mkdir(parents=True, exist_ok=True)
            marker.write_text(run, encoding="utf-8")
            return folder
    return folder


@step("keep evidence", deadline_s=1800)
def keep_evidence(site: Site, folder: Path) -> str:
    """The evidence is in the bucket of the stack, where it outlives the cluster; returns its address, empty without AWS."""
    block = site.block
    if block.aws is None:
        return ""
    session = block.session()
    bucket = ensure_state_bucket(session, site.infrastructure.name)
    upload_folder(session, bucket, f"evidence/{folder.name}", folder)
    address = f"s3://{bucket}/evidence/{folder.name}/"
    create_markdown_artifact(key="evidence-kept", markdown=f"Evidence is kept at `{address}`", description="Evidence in the bucket")
    return address
