"""The command of the load generator.

    python3 load.pyz PLAN.json

First it sends requests until it has learnt the right answers (state "warming"). Then it sends (running) until it is stopped or its time is
over or its records are not read any more, lets live requests end (draining), and stays for a while for its records (done). It
exits with 1 if the service gave no right answer in time; the reason is on stderr. Secret headers are in the environment and in no plan
and no command line.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drills.load import routes
from drills.load.clock import Clock
from drills.load.http import Client
from drills.load.run import Load, Plan
from drills.load.warmup import WarmUpFailed

PLAN_ONLY = {"warm_up_s": 120.0, "max_duration_s": 900.0, "lease_s": 0.0, "linger_s": 600.0, "records": "records.jsonl", "port": 8080}
"""What a plan may say beside the fields of `Plan`, with its default: seconds to wait for the right answers, seconds of sending at most,
seconds without a request for the records after which it stops (0: never), seconds to stay after the last request; the file of records,
which must not exist; the port of its HTTP API (routes.py), 0: any."""


async def run(given: Mapping[str, Any]) -> int | str:
    """Run the load from its start to its end; return 0, or the reason why it failed."""
    settings = {name: given.get(name, default) for name, default in PLAN_ONLY.items()}
    plan, records = Plan.from_json({name: value for name, value in given.items() if name not in PLAN_ONLY}), Path(settings["records"])
    if records.exists():
        return f"load: {records} exists; the records of another load are not overwritten"
    headers = plan.template.header_values(os.environ)
    client = Client(plan.url, Clock(), plan.patience_s, keep_alive=plan.template.keep_alive, headers=headers)
    load = Load(plan, client, records)
    async with routes.serve(load, settings["port"]) as port:
        print(f"load: {plan.url}, records on port {port}", flush=True)
        try:
            await load.run(settings["warm_up_s"], settings["max_duration_s"], settings["lease_s"])
        except WarmUpFailed as error:
            return f"load: {error}"
        finally:
            client.close()
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(load.outcomes.items()))
        print(f"load: {load.sent} requests sent, all ended: {outcomes}", flush=True)
        await asyncio.sleep(settings["linger_s"])
    return 0


async def _until_terminated(given: Mapping[str, Any]) -> int | str:
    """Run, and end at once on SIGTERM: process 1 of a container has no default handler for it, and the records are on disk already."""
    task = asyncio.ensure_future(run(given))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


def main(arguments: list[str]) -> int | str:
    """Run the plan that the one argument names; return the exit code, or the reason why it failed."""
    if len(arguments) != 1:
        return f"usage: {Path(sys.argv[0]).name} PLAN.json"
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every live request is an open file
    try:
        return asyncio.run(_until_terminated(json.loads(Path(arguments[0]).read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:  # the plan, or no room for a record or a connection
        return f"load: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
