"""`leeward drill`: a part of any RayService is broken under load, and what its users noticed is judged."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from blocks.errors import PipelineError, TimedOut
from drills.cli.compare import text
from drills.cli.definition import definition, probe, requests
from drills.cli.exits import EXITS, LEFT, NO_VERDICT, Refusal
from drills.cli.terminal import Terminal
from drills.compare import Incomparable, compare, last_passed, read
from drills.definition import Drill, Series
from drills.evidence import BadEvidence, Evidence
from drills.kubernetes import rights
from drills.kubernetes.api import Api, Refused, Unavailable
from drills.request import Template
from drills.runner import faults, load_job
from drills.runner import journal as journals
from drills.runner.acts.act import NoPod, NothingToBreak
from drills.runner.discovery import find_subject
from drills.runner.journal import InUse, Lock
from drills.runner.load_job import Placement
from drills.runner.observer import Observer
from drills.runner.waiting import Pending, Until
from drills.series import SeriesEvidence
from drills.stages import drill as stages
from drills.stages.run import Result, Run, call_plainly
from drills.strikes import Strike
from drills.subject import Subject

MESHES = {"istio-proxy", "linkerd-proxy"}
"""Names of the containers that a mesh injects."""
POD_WITHIN_S = 120.0
"""Seconds to wait for the pod that is to be struck. A new head takes about ten; one whose node is gone takes longer."""
LAST_PASSED = "last-passed"
"""Value of --against: the newest comparable drill that passed, in a folder beside this one's."""


def run(options: argparse.Namespace, connect: Callable[[], Api]) -> int:
    """Drill the service, or show what that would do; return the exit code."""
    template = requests(options)
    drill, repeated = definition(options, template), Series(repeat=options.repeat, graces=options.graces)
    earlier = read(Path(options.against)) if options.against not in (None, LAST_PASSED) else None
    api = connect()
    subject = find_subject(api, options.namespace, options.service, probe(template))
    terminal = Terminal()
    token = token_secret(api, subject)
    if lacking := rights.missing(api, subject.namespace, rights.rules_for(faults.needs(drill.faults), token)):
        if not options.dry_run:
            command = f"leeward rbac {options.page}{f' --ray-token {token}' if token else ''}"
            raise Refusal(f"this role lacks rights: {', '.join(lacking)}. `{command}` prints those that are needed")
        terminal.say(f"this role lacks: {', '.join(lacking)}", warning=True)
    targets = find_targets(api, subject, drill, terminal)
    placement = place(api, subject, targets, options)
    if mesh := sidecars(api, subject):
        terminal.say(f"its pods have sidecars of a mesh: {', '.join(mesh)}; docs/your-service.md says what that changes", warning=True)
    if options.dry_run:
        print(f"cluster    context {options.context} of the kubeconfig")
        dry_run(api, subject, drill, template, targets, placement)
        return 0
    if options.broken != str(subject):
        struck = f"{targets[0].target} would be struck, in the cluster of context {options.context}"
        raise Refusal(f"{struck}: if that is meant, add --break {subject}; --dry-run shows more")
    now = datetime.now(UTC)
    folder = options.out or Path(f"leeward-{subject.namespace}-{subject.name}-{now:%Y%m%dT%H%M%SZ}")
    if folder.exists() and any(folder.iterdir()):
        raise Refusal(f"{folder} is not empty: give another --out")
    if options.against == LAST_PASSED:
        earlier = find_last_passed(folder, subject, drill, repeated, terminal)
    this = Run(
        subject=subject,
        drill=drill,
        owner=str(uuid4()),
        name=folder.name,
        folder=folder,
        connect=lambda: api,
        prepare=lambda: placement,
        template=template,
        display=terminal,
        execute=call_plainly,
        series=repeated,
        target=options.context or "",
        config={"service": str(subject), "requests": template.for_load()},
    )
    undo = f"leeward undo -n {subject.namespace} --service {subject.name}"
    try:
        code, left = _drill(this), leftovers(api, this)
    except KeyboardInterrupt:  # the second one: the first ends the drill
        terminal.say(f"interrupted; `{undo}` removes what is left", warning=True)
        return LEFT
    if left:
        terminal.say(f"left in {subject.namespace}: {', '.join(left)}; `{undo}` removes it", warning=True)
        return LEFT
    if earlier and code in (0, 1):
        code = max(code, _against(earlier, folder))
    return code


def _drill(this: Run) -> int:
    """Do the drill; return the exit code by its verdict. What was put into the cluster is removed, however it ends."""
    try:
        result: Result = stages.drill(this)
    except InUse as error:
        raise Refusal(str(error)) from error
    except KeyboardInterrupt:
        this.warn("ended by a signal; what was put into the cluster is removed")
        return NO_VERDICT
    except stages.Broken as broken:
        this.warn(f"ended by {type(broken.error).__name__}: {broken.error}")
        return NO_VERDICT
    except PipelineError as error:
        this.warn(f"ended before the fault by {type(error).__name__}: {error}")
        return NO_VERDICT
    except Exception as error:  # such as a full disk; what was put into the cluster is removed all the same
        traceback.print_exc()
        this.warn(f"ended by {type(error).__name__}: {error}")
        return NO_VERDICT
    return EXITS[result.verdict]


def token_secret(api: Api, subject: Subject) -> str | None:
    """Return the name of the Secret with the token that Ray's dashboard asks for; None: it asks for none, or there is no head pod to see,
    which is reported later."""
    try:
        with Observer(api, subject) as observer:
            found = observer.token_secret()
            return found[0] if found else None
    except (Refused, Unavailable):
        return None


def find_targets(api: Api, subject: Subject, drill: Drill, terminal: Terminal) -> list[Strike]:
    """Return what the faults would strike now. Wait for a pod that is away at the moment, as after another drill that was killed.

    Raises:
        Refusal: something of it is not there.
    """

    def find() -> list[Strike] | Pending:
        with Observer(api, subject) as observer:
            before = observer.take_snapshot(ask=False)
        try:
            return [faults.ACTS[fault.kind].find(api, subject, fault, before) for fault in drill.faults]
        except NoPod as error:
            return Pending(str(error))

    progress = terminal.progress("target")
    try:
        return Until(f"a pod of {subject} to break", find, POD_WITHIN_S, every=2, on_pending=progress.show_pending).wait()
    except (NothingToBreak, TimedOut) as error:
        raise Refusal(str(error)) from error


def place(api: Api, subject: Subject, targets: list[Strike], options: argparse.Namespace) -> Placement:
    """Return where the load runs: away from what is struck.

    Raises:
        Refusal: all pods of the service are on one node, so it may be the only one.
    """
    with Observer(api, subject) as observer:
        pods, heads = observer.pods(), observer.cluster_pods("head")
        image = options.load_image or load_job.head_image(observer)
    struck = {target.target.node for target in targets if target.target.node}
    nodes = {pod["spec"].get("nodeName") for pod in pods}
    if not options.share_node and len(nodes) == 1 and struck & nodes and not _other_nodes(api, struck):
        raise Refusal(
            f"all pods of {subject} are on node {', '.join(map(str, nodes))}, and the load needs another one. With --share-node it runs "
            "there, too: then what the fault does to the node is done to the load"
        )
    secrets = (heads[-1]["spec"].get("imagePullSecrets") or []) if heads and not options.load_image else []
    avoided = () if options.share_node else tuple(sorted(struck))
    return Placement(image=image, avoid_nodes=avoided, pull_secrets=tuple(secret["name"] for secret in secrets))


def sidecars(api: Api, subject: Subject) -> list[str]:
    """Return the names of the containers in the service's pods that belong to a service mesh."""
    with Observer(api, subject) as observer:
        pods = observer.pods()
    containers = (c for pod in pods for part in ("containers", "initContainers") for c in pod["spec"].get(part) or ())
    return sorted({str(c["name"]) for c in containers} & MESHES)


def _other_nodes(api: Api, struck: set[str]) -> bool:
    """Whether there are other nodes that take pods; True where this role may not ask."""
    try:
        nodes = api.items("/api/v1/nodes")
    except Refused:
        return True
    return any(node["metadata"]["name"] not in struck and not node["spec"].get("unschedulable") for node in nodes)


def dry_run(api: Api, subject: Subject, drill: Drill, template: Template, targets: list[Strike], placement: Placement) -> None:
    """Print what the drill would do, and let the API server check every object that it would make. Nothing is stored.

    Raises:
        Refused: the API server would refuse an object: by a quota, by Pod Security, by a webhook.
    """
    load, asked = template.fitted(drill.load), template.as_sent().asks
    url = subject.url
    print(f"service    {subject}: users' requests go to {subject.serve_service}:{subject.serve_port}")
    for fault, strike in zip(drill.faults, targets, strict=True):
        when = f", {fault.when}" if fault.when else ""
        node = f" on node {strike.target.node}" if strike.target.node else ""
        print(f"strike     {fault.describe()}: {strike.target} (UID {strike.target.uid}){node}{when}")
        print(f"undo       {strike.undo or 'nothing: what is struck is replaced, or ends by itself'}")
    where = f"not on {', '.join(placement.avoid_nodes)}" if placement.avoid_nodes else "on any node"
    print(f"load       {load.short_per_s:g} requests/s and {load.streams} live streams, {where}, in {placement.image}")
    for kind, ask in asked.items():
        body = ask.content(template.sentences[0], 4)
        print(f"request    {kind}: {ask.method} {url}{ask.target(template.sentences[0], 4)} {body.decode()}".rstrip())
    probed = f"{subject.probe.method} {subject.probe.path}" if subject.probe else "none: the requests need a secret header"
    print(f"probe      {probed}")
    for made in load_job.job_objects(subject, "load-dry-run", placement, drill.load, load_job.duration(drill), template):
        api.call("POST", api.path(made).rpartition("/")[0], query={"dryRun": "All"}, body=made)
        print(f"would make {made['kind']} {subject.home}/{made['metadata']['name']}")
    print("would make ConfigMap and Lease for journal and lock; all is removed at the end. Nothing was touched")


def leftovers(api: Api, run: Run) -> list[str]:
    """Remove journal and lock, if nothing has to be undone any more; return what is left in the cluster of this run."""
    try:
        journal = journals.read(api, run.subject)
        if journal is not None and journal.owner != run.owner:
            return []
        if Lock(api, run.subject, run.owner).holder() not in ("", run.owner):
            return []
        left = [strike.undo for note in (journal.faults if journal else ()) for strike in note.strikes if strike.left]
        journals.remove_loads(api, run.subject, run.owner)
        if not left:
            journals.remove_journal(api, run.subject)
        return left
    except PipelineError as error:
        return [f"perhaps a load, a journal and a lock: {error}"]


def find_last_passed(folder: Path, subject: Subject, drill: Drill, series: Series, terminal: Terminal) -> Evidence | SeriesEvidence | None:
    """Return the drill to compare this one with; None, and a line about it, where there is none, as before the first one."""
    found = last_passed(folder.absolute().parent, str(subject), drill, series)
    if found is None:
        terminal.say(f"beside {folder} there is no drill of {subject} with this page and load that passed: nothing to compare with")
        return None
    terminal.say(f"compared with {found[0]}, the last one that passed")
    return found[1]


def _against(earlier: Evidence | SeriesEvidence, folder: Path) -> int:
    """Print the comparison with an earlier drill; return 1 when this one is worse."""
    try:
        found = compare(earlier, read(folder))
    except (Incomparable, BadEvidence) as error:
        print(f"not compared: {error}")
        return 0
    with suppress(OSError):  # a reader that is gone changes no result
        print(text(found), end="", flush=True)
    return int(bool(found.why))
