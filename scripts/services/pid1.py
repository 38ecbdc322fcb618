"""PID 1 of the services' pid namespace: starts the Prefect server, the worker and the forwarders, and reaps ended processes.

scripts/services/services.py starts it, writes one line of JSON to its stdin and keeps the pipe open. When the pipe closes
and KEEP was not written to it, the process that started the services has ended, and this process ends too. When this
process ends, for any reason, the kernel kills everything in the namespace, so no other clean-up is needed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from scripts.services.prefect_api import DIRECT

KEEP = b"keep\n"
"""Written to stdin: go on running when the pipe closes."""


@dataclass
class Programs:
    """The programs under this process, and whether they may outlive the process that started the services."""

    commands: dict[str, list[str]]
    """Name → command line. When one program ends, all do: half of the services are of no use."""
    gate: str
    """URL that must answer before any program but the first is started."""
    restarted: tuple[str, ...] = ()
    """Names of programs that are started again when they end, because they hold no state."""
    settled_s: float = 10.0
    """Seconds that such a program must have run to be started again: one that ends sooner would only end again."""
    kept: bool = False
    pids: dict[int, str] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Start every program that may start by now; call again until all run."""
        for name, argv in self.commands.items():
            if name in self.pids.values():
                continue
            if self.pids and not _answers(self.gate):
                return
            popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
            self.pids[popen.pid], self.began[name] = name, time.monotonic()
            popen.returncode = 0  # `reap` waits for it, not subprocess
            log(f"started {name} (pid {popen.pid} in this namespace)")

    def reap(self) -> str | None:
        """Reap ended children, adopted orphans too; return the name of a program that ended and is not started again."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            if pid in self.pids:
                name = self.pids.pop(pid)
                log(f"{name} ended with exit code {os.waitstatus_to_exitcode(status)}")
                if name not in self.restarted or time.monotonic() - self.began[name] < self.settled_s:
                    return name

    def lifeline_cut(self, descriptor: int, wait_s: float) -> bool:
        """Wait up to `wait_s` seconds for input from the pipe; True when it was closed and KEEP had not been written to it."""
        if self.kept:
            time.sleep(wait_s)
            return False
        ready, _, _ = select.select([descriptor], [], [], wait_s)
        if not ready:
            return False
        word = os.read(descriptor, 64)
        self.kept = word == KEEP
        return not word


def _answers(url: str) -> bool:
    try:
        with DIRECT.open(url, timeout=2):
            return True
    except OSError:
        return False


def log(text: str) -> None:
    """Print one line of the services' log."""
    print(f"{time.strftime('%H:%M:%S')} services: {text}", flush=True)


def main() -> int:
    """Run until a program ends (exit code 1), the pipe closes without KEEP (2), or SIGTERM arrives (0)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Prefect's worker turns SIGTERM into SIGINT: a worker that inherits an ignored SIGINT would never stop.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    first = b""
    while not first.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return 2
        first += byte
    programs = Programs(**json.loads(first))
    while True:
        programs.start()
        if programs.reap():
            return 1
        if programs.lifeline_cut(0, 0.5):
            log("the process that started the services has ended: ending too")
            return 2


if __name__ == "__main__":
    raise SystemExit(main())
