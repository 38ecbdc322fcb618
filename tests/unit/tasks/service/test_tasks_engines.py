"""Limits and needs of an engine come from its manifest, and nodes that are too small for a worker are reported."""

from __future__ import annotations

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from blocks.parameters import ENGINES, Engine, Inf2Nodes, Scaling
from tasks.service import engines


@pytest.mark.parametrize(("engine", "slots"), [("cpu", 16), ("neuron", 8)])
def test_a_replica_is_sized_for_three_quarters_of_its_slots_unless_it_is_said(engine: Engine, slots: int) -> None:
    assert engines.needs(engine).slots == slots
    assert engines.ongoing_requests(Scaling(), engine) == slots * 3 / 4
    assert engines.ongoing_requests(Scaling(ongoing_requests=5), engine) == 5


def test_every_inf2_type_has_a_size() -> None:
    types = {kind: one for kind, one in INSTANCE_TYPES.items() if kind.startswith("inf2.")}
    found = {kind: (one["VCpuInfo"]["DefaultVCpus"], one["MemoryInfo"]["SizeInMiB"] / 1024) for kind, one in types.items()}
    assert found == engines.SIZES


@pytest.mark.parametrize("engine", ENGINES)
def test_the_default_nodes_fit_every_engine(engine: Engine) -> None:
    assert engines.describe_misfit(Inf2Nodes(), engine) == ""


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (Inf2Nodes(instance_type="inf2.xlarge"), "inf2.xlarge has 4 vCPUs and 16 GiB"),
        (Inf2Nodes(fallback_types=("inf2.24xlarge", "inf2.xlarge")), "inf2.xlarge has 4 vCPUs and 16 GiB"),
        (Inf2Nodes(disk_gib=50), "disk_gib is 50"),
    ],
)
def test_nodes_that_are_large_enough_for_the_cpu_engine_may_be_too_small_for_neuron(nodes: Inf2Nodes, words: str) -> None:
    assert words in engines.describe_misfit(nodes, "neuron")
    assert engines.describe_misfit(nodes, "cpu") == ""
