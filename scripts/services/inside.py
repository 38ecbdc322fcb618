"""First process of the services' pid namespace: starts the Prefect server, the worker and the forwarders, and reaps.

Started by scripts/services/services.py, which writes one line of JSON to its stdin and keeps the pipe open. When
the pipe closes without `keep` having been said, the starter is gone, and this ends. When this ends, for
whatever reason, the kernel ends everything in the namespace: there is no other clean-up to get wrong.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field

KEEP = b"keep\n"
SETTLED_S = 10.0
"""A program that ends sooner after its start would only end again."""


@dataclass
class Services:
    """The programs that are up, and whether they may outlive the starter."""

    programs: dict[str, list[str]]
    """Name → command line. One that ends is the end of all: a demo with half of its services helps nobody."""
    gate: str
    """URL that must answer before any program but the first is started."""
    again: tuple[str, ...] = ()
    """Names of programs that are started again when they end, as they keep nothing that would be lost."""
    kept: bool = False
    pids: dict[int, str] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Every program runs that may by now; call again until all do."""
        for name, argv in self.programs.items():
            if name in self.pids.values():
                continue
            if self.pids and not _answers(self.gate):
                return
            popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
            self.pids[popen.pid], self.began[name] = name, time.monotonic()
            popen.returncode = 0  # buried by `reap`, not by subprocess
            say(f"started {name} (pid {popen.pid} in here)")

    def reap(self) -> str | None:
        """Buries ended children, adopted orphans too; returns the name of a program whose end is the end of all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            if pid in self.pids:
                name = self.pids.pop(pid)
                say(f"{name} ended with exit code {os.waitstatus_to_exitcode(status)}")
                if name not in self.again or time.monotonic() - self.began[name] < SETTLED_S:
                    return name

    def lifeline_cut(self, descriptor: int, wait_s: float) -> bool:
        """Waits up to `wait_s` for news from the starter; True when it is gone and had not said to keep all up."""
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
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2):
            return True
    except OSError:
        return False


def say(text: str) -> None:
    """One line in the services' log."""
    print(f"{time.strftime('%H:%M:%S')} services: {text}", flush=True)


def main() -> int:
    """Runs until a program ends (exit code 1), the starter is gone (2), or SIGTERM comes (0)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Prefect's worker turns SIGTERM into SIGINT: one that inherited an ignored SIGINT would never stop.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    first = b""
    while not first.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return 2
        first += byte
    services = Services(**json.loads(first))
    while True:
        services.start()
        if services.reap():
            return 1
        if services.lifeline_cut(0, 0.5):
            say("whoever started the services is gone: ending")
            return 2


if __name__ == "__main__":
    raise SystemExit(main())
