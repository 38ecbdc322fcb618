"""A process in a Ray container gets a signal. It is known by its container, its id and its start time, and never by its name alone.

The commands run in the container, by bash and /proc only: KubeRay starts every container with bash, and small images have no pkill.
"""

from __future__ import annotations

import time
from contextlib import suppress
from urllib.parse import urlencode

from drills.faults import SERVE, Signal
from drills.kubernetes import pod_problems
from drills.kubernetes.api import Api, CommandFailed, NotFound, Object, Unavailable
from drills.kubernetes.rights import Rule
from drills.observed import ActorSeen, ReplicaSeen, Snapshot
from drills.runner.acts.act import Act, NothingToBreak, find_pod, find_same, pod_path
from drills.runner.observer import Observer
from drills.strikes import Strike, Target
from drills.subject import Subject

TRIES = 3
"""Number of times that a command is run whose connection broke, as when it ends with its own container."""
SECONDS = 20.0
"""Seconds for one command. A process that is told to end has half of them."""

LOOK = r"""
look() {  # sets state and began of a process; state is "gone" without it, or when it only waits for its parent
    local line=; { read -r line < "/proc/$1/stat"; } 2> /dev/null
    set -- ${line##*) }
    state=${1:-gone} began=${20:-}
    case $state in Z|X) state=gone ;; esac
}
"""
FIND = (
    LOOK
    + r"""
mapfile -t mine < /proc/self/cgroup
same() {  # whether the process is in this container: with a shared process namespace it may be in another one
    local i theirs; mapfile -t theirs < "/proc/$1/cgroup"
    for i in "${!mine[@]}"; do [[ ${theirs[i]} == "${mine[i]%/}"* && ${theirs[i]} != */..* ]] || return 1; done
}
called() {
    local word; { read -r word < "/proc/$1/comm"; } 2> /dev/null
    [[ $word == "$2" ]] && return
    while IFS= read -r -d '' word; do [[ ${word##*/} == "$2.py" ]] && return; done < "/proc/$1/cmdline"
    return 1
}
for folder in /proc/[0-9]*; do
    pid=${folder##*/}
    if [[ $1 =~ ^[0-9]+$ ]]; then [[ $pid == "$1" ]]; else called "$pid" "$1"; fi 2> /dev/null || continue
    same "$pid" 2> /dev/null || continue
    look "$pid"
    [[ $state == gone ]] || echo "$pid $began"
done
"""
)
STRIKE = (
    LOOK
    + r"""
pid=$1 start=$2 signal=$3 hold=$4 mark=/tmp/leeward-stopped-$1-$2
ours() { look "$pid"; [[ $began == "$start" && $state != gone ]]; }
ours || { echo gone already; exit; }
if [[ $signal != STOP ]]; then
    kill -s "$signal" "$pid"
elif mkdir "$mark" 2> /dev/null; then
    # The timer first, and without the files of this command: it outlives it.
    ( sleep "$hold"; ours && kill -s CONT "$pid" ) < /dev/null > /dev/null 2>&1 &
    kill -s STOP "$pid"
else
    [[ -d $mark ]] || { echo "no folder can be made in /tmp" >&2; exit 3; }
    echo stopped already; exit
fi
for _ in {1..100}; do
    ours || { echo gone; exit; }
    [[ $signal == STOP && $state == [Tt] ]] && { echo stopped; exit; }
    sleep 0.1
done
echo running
"""
)
UNDO = LOOK + r"""look "$1"; [[ $began == "$2" ]] && kill -s CONT "$1"; rmdir "/tmp/leeward-stopped-$1-$2" 2> /dev/null; :"""


def find(api: Api, subject: Subject, fault: Signal, before: Snapshot | None) -> Strike:
    """Return the process as the target, with its id and start time."""
    name: str = fault.process
    called, where = name, ""
    if fault.process in SERVE:
        with Observer(api, subject) as observer:
            actor, name = _actor(api, subject, fault, observer.take_snapshot(ask=False), before)
            called, where = str(_process_id(observer, actor.actor_id)), actor.pod or ""
    if not where:
        where = find_pod(api, subject, fault.of, fault.which, before)[0].pod
    pod = api.get(pod_path(subject, where))
    if pod["spec"].get("hostPID"):
        raise NothingToBreak(f"pod {where} shares the process ids of its node (hostPID), so another pod's process could be struck")
    running = pod_problems.container_id(pod)
    if running is None:
        raise NothingToBreak(f"the Ray container of pod {where} does not run")
    found = (
        api.exec(subject.namespace, where, _container(pod), ("bash", "-c", FIND, "find", called), timeout_s=SECONDS).decode().split("\n")
    )
    if not (lines := [line.split() for line in found if line.strip()]):
        raise NothingToBreak(f"pod {where} has no process {called}")
    pid, start = min(lines, key=lambda line: int(line[0]))
    target = Target(
        kind="process",
        name=name,
        uid=f"{pid}:{start}",
        node=pod["spec"].get("nodeName", ""),
        pod=where,
        container=running,
        pods=(pod["metadata"]["uid"],),
    )
    return Strike(act=fault.kind, target=target, at=time.time(), undo=f"let {target} go on" if fault.hold_s else "")


def _actor(api: Api, subject: Subject, fault: Signal, now: Snapshot, before: Snapshot | None) -> tuple[ActorSeen | ReplicaSeen, str]:
    """Return the actor of Serve that is meant, and its name in words."""
    if fault.process == "serve-controller":
        found: ActorSeen | ReplicaSeen | None = now.controller
        name = "Serve controller"
    else:
        pod = find_pod(api, subject, fault.of, fault.which, before)[0].pod
        if fault.process == "serve-proxy":
            found, name = next((proxy for proxy in now.proxies or () if proxy.pod == pod), None), "Serve proxy"
        else:
            those = [r for r in now.replicas or () if r.pod == pod and r.state == "RUNNING" and fault.deployment in ("", r.deployment)]
            found = those[0] if those else None
            name = f"replica of {found.deployment}" if isinstance(found, ReplicaSeen) else "replica"
    if found is None or not found.actor_id or not found.pod:
        raise NothingToBreak(f"Ray lists no {name} of {subject} where it is to be broken")
    return found, name


def _process_id(observer: Observer, actor_id: str) -> int:
    """Return the process id of an actor, from Ray's list of actors."""
    query = {"filter_keys": "actor_id", "filter_predicates": "=", "filter_values": actor_id, "limit": 1, "detail": 1}
    answer = observer.ask_head(f"/api/v0/actors?{urlencode(query)}")
    found = ((answer.get("data") or {}).get("result") or {}).get("result") or [{}]
    pid = found[0].get("pid")
    if not pid:
        raise NothingToBreak(f"Ray does not tell the process id of actor {actor_id}")
    return int(pid)


def strike(api: Api, subject: Subject, fault: Signal, planned: Strike) -> Strike:
    """Send the signal to the planned process, unless it has ended, has another start time, or is stopped already."""
    pid, start = planned.target.uid.split(":")
    command = ("bash", "-c", STRIKE, "strike", pid, start, fault.signal, f"{fault.hold_s or 0:g}")
    at, told = time.time(), ""
    for tried in range(TRIES):
        pod = _struck_pod(api, subject, planned.target)
        if pod is None:  # its container is gone, and the process with it
            told = "gone" if tried else "gone already"
            break
        try:
            told = api.exec(subject.namespace, planned.target.pod, _container(pod), command, timeout_s=SECONDS).decode().strip()
            break
        except (CommandFailed, Unavailable) as error:
            if isinstance(error, CommandFailed) and error.status not in (None, 137, 143):
                raise
            time.sleep(1)
    else:
        raise Unavailable(f"the command that strikes {planned.target} was broken off {TRIES} times")
    seen, _, already = told.partition(" ")
    at = planned.at if already else at
    return planned.model_copy(update={"done": True, "at": at, "told": seen, "ended": at + fault.hold_s if fault.hold_s else None})


def undo(api: Api, subject: Subject, strike: Strike) -> None:
    """Let a stopped process go on, and remove the mark that it was stopped. The timer in its container has done the first before."""
    pod = _struck_pod(api, subject, strike.target)
    if pod is not None:
        pid, start = strike.target.uid.split(":")
        with suppress(NotFound):
            api.exec(subject.namespace, strike.target.pod, _container(pod), ("bash", "-c", UNDO, "undo", pid, start), timeout_s=SECONDS)


def _struck_pod(api: Api, subject: Subject, target: Target) -> Object | None:
    """Return the pod of the process; None when the pod or its container is another one, or has ended."""
    pod = find_same(api, pod_path(subject, target.pod), *target.pods)
    return pod if pod is not None and pod_problems.container_id(pod) == target.container else None


def _container(pod: Object) -> str:
    """Return the name of the Ray container, the first one."""
    return str(pod["spec"]["containers"][0]["name"])


ACT = Act(find, strike, needs=(Rule("pods/exec", ("get", "create")),), undo=undo)
