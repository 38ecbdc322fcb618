"""Refusals before anything is changed, the stages, and the end state of a run by its verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas import State
from prefect.states import Failed

from blocks.errors import PipelineError, TimedOut
from blocks.parameters import Inf2Nodes, Infrastructure, Ingress, Scaling, Service
from blocks.register import TargetData
from drills.definition import Load, Slos, Timing
from drills.kubernetes.api import Unavailable
from drills.runner.journal import InUse, LockLost
from drills.stages.drill import Broken
from drills.stages.run import Result, Run
from flows import checks, drill_stages, stages
from flows.runs.approval import Given
from tasks.drill import evidence
from tasks.images.publish import ImageRefs
from tasks.support import site
from tasks.support.paths import ROOT
from tasks.terraform.events import Change, PlanSummary


@pytest.fixture(autouse=True)
def saved(monkeypatch: pytest.MonkeyPatch) -> None:
    target = TargetData(access_key_id="a", secret_access_key="b").target()  # type: ignore[arg-type]  # validated
    monkeypatch.setattr(site, "load_target", lambda name: target)


def test_more_workers_than_nodes_are_refused() -> None:
    with pytest.raises(checks.BadParameters, match="3 workers"):
        checks.checked_site("t", Infrastructure(), Service(workers=3))
    assert checks.checked_site("t", Infrastructure(inf2_nodes=Inf2Nodes(count=3)), Service(workers=3))


def test_the_nodes_must_be_enough_for_the_highest_load() -> None:
    scaled = Service(scaling=Scaling(max_workers=4))
    with pytest.raises(checks.BadParameters, match="4 workers"):
        checks.checked_site("t", Infrastructure(inf2_nodes=Inf2Nodes(count=3)), scaled)
    assert checks.checked_site("t", Infrastructure(inf2_nodes=Inf2Nodes(count=4)), scaled)


def test_nodes_that_are_too_small_for_a_worker_are_refused() -> None:
    small = Infrastructure(inf2_nodes=Inf2Nodes(instance_type="inf2.xlarge"))
    with pytest.raises(checks.BadParameters, match="has 4 vCPUs"):
        checks.checked_site("t", small, Service())
    assert checks.checked_site("t", small, Service(engine="cpu"))
    assert checks.checked_site("t", small), "cleanup only needs its name"


@pytest.mark.parametrize(("engine", "slots"), [("cpu", 16), ("neuron", 8)])
def test_a_replica_sized_for_more_than_its_slots_is_refused(engine: Any, slots: int) -> None:
    many = Infrastructure(inf2_nodes=Inf2Nodes(count=4))
    assert checks.checked_site("t", many, Service(engine=engine, scaling=Scaling(ongoing_requests=slots)))
    with pytest.raises(checks.BadParameters, match=f"answers {slots} requests at once"):
        checks.checked_site("t", many, Service(engine=engine, scaling=Scaling(ongoing_requests=slots + 1)))


@pytest.mark.parametrize(("engine", "tokens"), [("cpu", 256), ("neuron", 1024)])
def test_a_load_that_asks_for_longer_answers_than_the_engine_gives_is_refused(engine: Any, tokens: int) -> None:
    assert checks.checked_site("t", Infrastructure(), Service(engine=engine), Load(short_tokens=tokens, stream_tokens=tokens))
    with pytest.raises(checks.BadParameters, match=f"answers of {tokens + 1} tokens.* {tokens} at most"):
        checks.checked_site("t", Infrastructure(), Service(engine=engine), Load(stream_tokens=tokens + 1))


def test_a_model_is_refused_for_an_engine_that_does_not_compute_it_and_has_limits_of_its_own() -> None:
    many = Infrastructure(inf2_nodes=Inf2Nodes(count=4))
    with pytest.raises(checks.BadParameters, match="for the engine cpu, and this service's engine is neuron"):
        checks.checked_site("t", many, Service(engine="neuron", model="smollm2"))
    speaking = Service(engine="cpu", model="smollm2", scaling=Scaling(ongoing_requests=8))
    assert checks.checked_site("t", many, speaking)
    with pytest.raises(checks.BadParameters, match="8 requests at once"):
        checks.checked_site("t", many, speaking.model_copy(update={"scaling": Scaling(ongoing_requests=9)}))


def test_a_model_of_a_bucket_that_the_workers_may_not_read_is_refused() -> None:
    own, foreign = Service(model="s3://leeward-leeward-123456789012-us-west-2/models/tuned"), Service(model="s3://weights/tuned")
    assert checks.checked_site("t", Infrastructure(), own)
    for service in (foreign, Service(model="s3://leeward-leeward-123456789012-us-west-2/tuned")):
        with pytest.raises(checks.BadParameters, match=r"infrastructure\.model_buckets"):
            checks.checked_site("t", Infrastructure(), service)
    assert checks.checked_site("t", Infrastructure(model_buckets=("weights",)), foreign)


def test_a_revision_without_a_model_of_the_hub_is_refused() -> None:
    assert checks.checked_site("t", Infrastructure(), Service(engine="neuron", revision="v1"))
    with pytest.raises(checks.BadParameters, match="name a model, too"):
        checks.checked_site("t", Infrastructure(), Service(engine="cpu", revision="v1"))


def test_a_way_in_from_outside_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Service(ingress=Ingress(certificate_arn="arn:aws:acm:us-west-2:123456789012:certificate/0-1"))
    with pytest.raises(checks.BadParameters, match="no api_key"):
        checks.checked_site("t", Infrastructure(), wanted)
    monkeypatch.setattr(site, "load_target", lambda name: TargetData.model_validate({"api_key": "k"}).target())
    assert checks.checked_site("t", Infrastructure(), wanted)


@pytest.mark.parametrize("count", [2, 3])
def test_workers_that_share_nodes_need_fewer_and_larger_ones(count: int) -> None:
    whole = Infrastructure(inf2_nodes=Inf2Nodes(instance_type="inf2.24xlarge", fallback_types=(), count=count, disk_gib=600))
    assert checks.checked_site("t", whole, Service(workers=6 * count, workers_per_node=6))
    with pytest.raises(checks.BadParameters, match=f"{6 * count + 1} workers need {count + 1} inf2 nodes"):
        checks.checked_site("t", whole, Service(workers=6 * count + 1, workers_per_node=6))
    with pytest.raises(checks.BadParameters, match=r"inf2\.24xlarge has 6 chips"):
        checks.checked_site("t", whole, Service(workers=7, workers_per_node=7))
    with pytest.raises(checks.BadParameters, match=r"disk_gib is 200.*may take 536"):
        checks.checked_site(
            "t", Infrastructure(inf2_nodes=whole.inf2_nodes.model_copy(update={"disk_gib": 200})), Service(workers=12, workers_per_node=6)
        )


def test_a_cluster_of_others_has_no_bucket_for_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.checked_site("t", Infrastructure(), Service(compile_ahead=True))
    monkeypatch.setattr(site, "load_target", lambda name: TargetData.model_validate({"cluster": "prod", "engine": "neuron"}).target())
    assert checks.checked_site("t", Infrastructure(), Service())
    with pytest.raises(checks.BadParameters, match="compile_ahead"):
        checks.checked_site("t", Infrastructure(), Service(compile_ahead=True))


def test_fault_tolerance_without_a_redis_is_refused_for_a_provisioned_cluster() -> None:
    with pytest.raises(checks.BadParameters, match="enable_gcs_ha"):
        checks.checked_site("t", Infrastructure(enable_gcs_ha=False), Service(gcs_fault_tolerance=True))
    assert checks.checked_site("t", Infrastructure(enable_gcs_ha=False), Service())


def test_a_target_with_an_existing_cluster_needs_a_redis_and_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def saved(**data: Any) -> None:
        monkeypatch.setattr(
            site, "load_target", lambda name: TargetData.model_validate({"cluster": "prod", "engine": "cpu", **data}).target()
        )

    redis = {"address": "redis.example", "auth_token": "t"}
    saved()
    with pytest.raises(checks.BadParameters, match="give the target one"):
        checks.checked_site("t", Infrastructure(), Service(gcs_fault_tolerance=True))
    with pytest.raises(checks.BadParameters, match="save it again with image"):
        checks.check_images(checks.checked_site("t", Infrastructure(), Service()))
    saved(redis=redis, image="r/x@sha256:1")
    checks.check_images(checks.checked_site("t", Infrastructure(), Service(gcs_fault_tolerance=True)))


def test_a_provisioned_cluster_needs_no_ready_image() -> None:
    checks.check_images(checks.checked_site("t", Infrastructure(), Service()))


def test_the_refusal_of_an_unknown_drill_lists_the_known_ones() -> None:
    with pytest.raises(checks.BadParameters, match="head-pod, head-pod-forced"):
        checks.checked_drill("flood", Service(), None, None, None)


def test_the_steady_state_of_a_drill_has_the_size_of_the_service() -> None:
    steady = checks.checked_drill("head-pod", Service(workers=1), None, None, None).steady_state
    assert (steady.min_endpoints, steady.min_replicas, steady.min_nodes) == (1, 1, 1)


class Planned:
    """Replaces Terraform's task and returns a plan."""

    def __init__(self, *changes: Change) -> None:
        self.plan = PlanSummary(changes, "0123456789ab" if changes else "")

    def __call__(self, *_: Any) -> PlanSummary:
        return self.plan


def planning(monkeypatch: pytest.MonkeyPatch, *changes: Change) -> None:
    monkeypatch.setattr(stages, "plan_infrastructure", Planned(*changes))
    monkeypatch.setattr(stages, "check_in_use", lambda site, planned: None)


def test_a_plan_without_approval_stops_the_run_and_explains_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    planning(monkeypatch, Change("aws_vpc.this", "create"))
    with pytest.raises(checks.NotApproved, match=r"approved=0123456789ab$"):
        stages.plan(checks.checked_site("t", Infrastructure()), Given())


def test_a_plan_goes_on_when_its_digest_is_approved_or_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    planning(monkeypatch, Change("aws_vpc.this", "create"))
    assert stages.plan(checks.checked_site("t", Infrastructure()), Given("0123456789ab"))
    planning(monkeypatch)
    assert stages.plan(checks.checked_site("t", Infrastructure()), Given()) is not None


def test_replacing_a_running_karpenter_by_a_managed_group_is_refused_even_if_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    planning(monkeypatch, Change("aws_iam_role.karpenter_node[0]", "delete"), Change("aws_eks_node_group.inf2[0]", "create"))
    managed = Infrastructure(inf2_nodes=Inf2Nodes(provisioner="managed"))
    with pytest.raises(checks.BadParameters, match="run cleanup first"):
        stages.plan(checks.checked_site("t", managed), Given("0123456789ab", may_replace=True))


def test_the_role_of_karpenters_nodes_has_the_same_name_in_terraform() -> None:
    kind, name = stages.KARPENTERS_NODES.removesuffix("[0]").split(".")
    assert f'resource "{kind}" "{name}" {{\n  count = ' in (ROOT / "terraform" / "karpenter.tf").read_text()


def test_the_end_is_written_before_anything_is_made_and_the_device_plugin_installed_before_karpenter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = []
    for name in ("write_expiry", "apply_infrastructure", "install_device_plugin", "install_karpenter"):
        monkeypatch.setattr(stages, name, lambda *_, name=name: done.append(name))
    stages.apply(checks.checked_site("t", Infrastructure()), PlanSummary(()))
    assert done == ["write_expiry", "apply_infrastructure", "install_device_plugin", "install_karpenter"]


IN_USE = InUse(Service(), TimedOut("run b holds it"))


class Deploying:
    """Replaces the tasks of the deploy stage and records the calls; one task may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, chat: str | None = None, **failing: Exception) -> None:
        self.called: list[str] = []
        self._failing = failing
        images = ImageRefs(head="h", worker="w", chat=chat)
        for name in (
            "check_way_in",
            "install_kuberay",
            "give_role",
            "compile_ahead",
            "apply_service",
            "size_service",
            "wait_for_service",
            "deploy_chat",
            "remove_chat",
        ):
            monkeypatch.setattr(stages, name, self._step(name, self))
        for name, answer in {"publish_images": images, "hold_lock": None, "let_go_of_lock": None}.items():
            monkeypatch.setattr(stages, name, self._step(name, answer))
        monkeypatch.setattr(stages, "holding_lock", self._holding)

    def _step(self, name: str, answer: Any) -> Any:
        def step(*_: Any, **__: Any) -> Any:
            self.called.append(name)
            if name in self._failing:
                raise self._failing[name]
            return answer

        step.submit = step  # type: ignore[attr-defined]  # as a Prefect task has it
        return step

    @contextmanager
    def _holding(self, *given: Any) -> Iterator[Any]:
        self.called.append("renewals begin")
        try:
            yield lambda: None
        finally:
            self.called.append("renewals end")
            given[-1]()

    def result(self) -> None:
        """Stands in for the result of a submitted task."""


def deploy(steps: Deploying) -> list[str]:
    stages.deploy(checks.checked_site("t", Infrastructure()), Service(), None, stages.Run("a", "calm-otter"))
    return steps.called


def test_nothing_is_deployed_while_another_run_holds_the_lock_and_that_lock_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Deploying(monkeypatch, hold_lock=IN_USE)
    with pytest.raises(InUse):
        deploy(steps)
    assert steps.called == ["hold_lock"]


def test_a_deployment_holds_the_lock_from_the_first_to_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    called = deploy(Deploying(monkeypatch))
    assert called[:2] == ["hold_lock", "renewals begin"]
    assert called[-2:] == ["renewals end", "let_go_of_lock"]
    assert {"apply_service", "wait_for_service"} <= set(called)


@pytest.mark.parametrize("failing", ["install_kuberay", "publish_images", "apply_service", "wait_for_service"])
def test_a_failed_deployment_releases_the_lock(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    steps = Deploying(monkeypatch, **{failing: RuntimeError(failing)})
    with pytest.raises(RuntimeError, match=failing):
        deploy(steps)
    assert steps.called[-3:] == [failing, "renewals end", "let_go_of_lock"]


def test_the_chat_is_deployed_or_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"deploy_chat", "remove_chat"} & set(deploy(Deploying(monkeypatch, chat="c"))) == {"deploy_chat"}
    assert {"deploy_chat", "remove_chat"} & set(deploy(Deploying(monkeypatch))) == {"remove_chat"}


@pytest.mark.parametrize("ended_by", [None, LockLost("another run took over the drill lock")])
def test_an_error_after_the_first_fault_ends_the_run_after_the_evidence_was_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ended_by: PipelineError | None
) -> None:
    kept: list[Path] = []

    def drilled(_: Run) -> Result:
        if ended_by is not None:
            raise Broken(result("aborted"), ended_by)
        return result("passed")

    monkeypatch.setattr(drill_stages.stages, "drill", drilled)
    monkeypatch.setattr(drill_stages, "keep_evidence", lambda site, folder, return_state: kept.append(folder))
    monkeypatch.setattr(stages.Run, "folder", tmp_path)
    site, definition = checks.checked_site("t", Infrastructure()), checks.checked_drill("head-pod", Service(), None, None, None)
    with pytest.raises(LockLost) if ended_by else nullcontext():
        assert drill_stages.drill(site, Service(), definition, stages.Run("a", "calm-otter")).passed
    assert bool(kept) is bool(ended_by)


def test_an_observe_timeout_below_the_promised_recovery_time_is_refused() -> None:
    short = Timing(observe_timeout_s=60)
    with pytest.raises(checks.BadParameters, match=r"max_recovery_s \(120\) .*observe_timeout_s \(60\)"):
        checks.checked_drill("head-pod", Service(), short, None, None)
    assert checks.checked_drill("head-pod", Service(), short, None, Slos(max_recovery_s=60)).timing == short


def test_the_evidence_is_kept_even_if_the_debug_bundle_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any, return_state: bool = False) -> State[Any]:
        if not return_state:
            raise TimeoutError
        return Failed()

    kept: list[Path] = []
    monkeypatch.setattr(drill_stages, "collect_debug", slow)
    monkeypatch.setattr(drill_stages, "keep_evidence", lambda site, folder: kept.append(folder))
    monkeypatch.setattr(drill_stages, "close_journal", lambda *_, **__: None)
    drill_stages.keep(checks.checked_site("t", Infrastructure()), Service(), result("failed"), stages.Run("a", "calm-otter"))
    assert kept == [Path("/evidence/x")]


def test_the_journal_is_closed_only_once_the_evidence_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def fails(*_: Any) -> None:
        raise Unavailable("no bucket")

    monkeypatch.setattr(drill_stages, "close_journal", lambda site, service, owner, **_: done.append(owner))
    monkeypatch.setattr(drill_stages, "keep_evidence", fails)
    site, run = checks.checked_site("t", Infrastructure()), stages.Run("a", "calm-otter")
    with pytest.raises(Unavailable):
        drill_stages.keep(site, Service(), result("passed"), run)
    assert done == []
    monkeypatch.setattr(drill_stages, "keep_evidence", lambda *_: None)
    drill_stages.keep(site, Service(), result("passed"), run)
    assert done == ["a"]


@pytest.mark.parametrize(("verdict", "bundles"), [("passed", 0), ("failed", 1), ("void", 1), ("aborted", 1)])
def test_every_verdict_except_passed_gets_a_debug_bundle_that_is_kept_with_the_evidence(
    monkeypatch: pytest.MonkeyPatch, verdict: str, bundles: int
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(drill_stages, "collect_debug", lambda site, service, folder, return_state: done.append(("bundle", folder)))
    monkeypatch.setattr(drill_stages, "keep_evidence", lambda site, folder: done.append(("kept", folder)))
    monkeypatch.setattr(drill_stages, "close_journal", lambda *_, **__: None)
    drill_stages.keep(checks.checked_site("t", Infrastructure()), Service(), result(verdict), stages.Run("a", "calm-otter"))
    assert done == [*[("bundle", Path("/evidence/x"))] * bundles, ("kept", Path("/evidence/x"))]


def result(verdict: Any) -> Result:
    return Result(verdict=verdict, headline="The head went.", folder=Path("/evidence/x"))


def test_a_run_completes_only_when_its_drill_passed() -> None:
    assert drill_stages.end_state(result("passed")).is_completed()
    for verdict in ("failed", "aborted", "void"):
        state = drill_stages.end_state(result(verdict))
        assert state.is_failed()
        assert state.name == "VerdictFailed"
        assert state.message is not None
        assert verdict in state.message
        assert "/evidence/x/report.html" in state.message


def test_a_run_keeps_its_evidence_folder_and_another_run_of_the_same_name_gets_a_new_one(tmp_path: Path) -> None:
    first = evidence.folder_for("calm-otter", "11111111-a", tmp_path)
    assert first == tmp_path / "calm-otter"
    assert evidence.folder_for("calm-otter", "11111111-a", tmp_path) == first
    assert evidence.folder_for("calm-otter", "22222222-b", tmp_path) == tmp_path / "calm-otter-22222222"


@pytest.mark.parametrize("name", ["../../outside", "/outside", "a/b", "..", "", "night \N{WHITE SMILING FACE} shift", "x" * 300])
def test_a_run_of_any_name_gets_one_evidence_folder_beside_the_others(tmp_path: Path, name: str) -> None:
    found = evidence.folder_for(name, "11111111-a", tmp_path)
    assert found.parent == tmp_path
    assert found.is_dir()
    assert evidence.folder_for(name, "22222222-b", tmp_path) == tmp_path / f"{found.name}-22222222"
