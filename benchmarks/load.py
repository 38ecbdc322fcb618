"""What the load generator can send, and how exact its times are, against a server that answers at once.

    .venv/bin/python -m benchmarks.load [--rate 1000] [--streams 500] [--seconds 20] [--requests 0] [--keep-alive]

The load runs as in a cluster, from its one file; the server is a second process. Four figures of one run:

    schedule   how late requests were sent
    arrival    how much later than the server wrote it a token got its time
    processor  seconds of CPU of the load for each second
    memory     of the load, at the first request and at the last
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from drills.load.clock import Clock
from drills.records import read_lines
from drills.runner import load_file

PER_S = 10
"""Tokens a second of each stream."""
TOKENS = 50
SHORT = b'{"text": "ok"}'
TOKEN = b'{"choices": [{"text": " token"}]}\n'
END = b"0\r\n\r\n"
NUMBER = re.compile(rb"%5B(\d+)%5D")
"""The beginning that the load gives to the sentence of each request, as it is in a path."""


class Server(asyncio.Protocol):
    """A server that writes the answer to each request at once, or token by token."""

    written: ClassVar[dict[int, list[float]]] = {}
    """Number of a stream → the time at which each of its tokens was written."""
    clock = Clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer; every request comes in one piece."""
        closes = b"\r\nConnection: close\r\n" in data
        if data.startswith(b"GET /short"):
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(SHORT), SHORT))
            if closes:
                self._transport.close()
        elif data.startswith(b"GET /written"):
            body = json.dumps(self.written).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            self._transport.close()
        else:
            number = NUMBER.search(data)
            times = self.written.setdefault(int(number[1]), []) if number else []  # those of the warm-up have none
            self._transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            self._tell(asyncio.get_running_loop().time(), times, 0, closes)

    def _tell(self, began: float, times: list[float], n: int, closes: bool) -> None:
        if self._transport.is_closing():
            return
        if n == TOKENS:
            self._transport.write(END)
            if closes:
                self._transport.close()
            return
        times.append(self.clock.now())
        self._transport.write(b"%x\r\n%s\r\n" % (len(TOKEN), TOKEN))
        asyncio.get_running_loop().call_at(began + (n + 1) / PER_S, self._tell, began, times, n + 1, closes)


async def serve() -> None:
    """Serve until killed; print the port first."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def plan(options: argparse.Namespace, port: int, records: Path) -> dict[str, Any]:
    """Return the plan of the load."""
    answers = {"short": {"read": "json", "text": "text"}, "stream": {"read": "lines", "text": "choices.0.text"}}
    return {
        "url": f"http://127.0.0.1:{port}",
        "template": {
            "sentences": ["x"],
            "check": "status",
            "keep_alive": options.keep_alive,
            **{kind: {"path": f"/{kind}?${{sentence}}", "answer": answer} for kind, answer in answers.items()},
        },
        "short_per_s": options.rate,
        "streams": options.streams,
        "max_duration_s": options.requests / options.rate if options.requests else options.seconds,
        "records": str(records),
        "port": 0,
        "linger_s": 0,
    }


def used(pid: int) -> tuple[float, float]:
    """Return seconds of processor time, and MB of memory, of a process."""
    ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return sum(map(int, ticks)) / 100, pages * 4096 / 1e6


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one load; return its figures."""
    (folder / "load.pyz").write_bytes(load_file.make())
    with subprocess.Popen([sys.executable, "-m", "benchmarks.load", "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        (folder / "plan.json").write_text(json.dumps(plan(options, port, folder / "records")), encoding="utf-8")
        try:
            with subprocess.Popen(
                [sys.executable, "-I", folder / "load.pyz", folder / "plan.json"], stdout=subprocess.PIPE, text=True
            ) as load:
                assert load.stdout is not None
                own = f"http://127.0.0.1:{load.stdout.readline().split()[-1]}/status"
                samples = []
                while load.poll() is None:
                    try:
                        with urllib.request.urlopen(own, timeout=10) as answer:
                            running = json.load(answer)["state"] == "running"
                    except OSError:
                        continue  # it is starting or ending, or has more to do than it can
                    if running:
                        samples.append((time.monotonic(), *used(load.pid)))
                    time.sleep(1)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/written", timeout=60) as answer:
                written = {int(number): times for number, times in json.load(answer).items()}
        finally:
            server.kill()
    return figures(folder / "records", written, samples)


def figures(file: Path, written: Mapping[int, Sequence[float]], samples: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Return the figures from the records and from the times of the server; what is late is in milliseconds."""
    late, after, outcomes = [], [], Counter[str]()
    with file.open(encoding="utf-8") as lines:
        for record in read_lines(lines):
            outcomes[f"{record.kind} {record.outcome} {record.detail}".rstrip()] += 1
            late.append((record.sent - record.due) * 1000)
            if record.kind == "stream" and record.id in written:
                after += [(taken - wrote) * 1000 for taken, wrote in zip(record.token_times, written[record.id], strict=False)]
    if len(samples) < 2:
        raise SystemExit("the load did not answer while it ran: the machine has too little processor time for it")
    (first, cpu, memory), (last, cpu_then, memory_then) = samples[0], samples[-1]
    return {
        "outcomes": dict(outcomes),
        "schedule_ms": percentiles(late),
        "arrival_ms": percentiles(after),
        "processor": round((cpu_then - cpu) / (last - first), 2),
        "memory_mb": [round(memory, 1), round(memory_then, 1)],
    }


def percentiles(values: list[float]) -> dict[str, float]:
    """Return the 50th and the 99th percentile and the largest value."""
    ordered = sorted(values)
    return {f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 2) for p in (50, 99, 100)} if ordered else {}


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("serve", nargs="?", choices=["serve"], help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=1000.0, help="short requests a second")
    parser.add_argument("--streams", type=int, default=500, help="streams alive at any time")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--requests", type=int, default=0, help="short requests in all, in place of --seconds")
    parser.add_argument("--keep-alive", action="store_true", help="keep connections")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options, Path(folder))))


if __name__ == "__main__":
    main()
