"""The command of the load generator.

    python -m serving.load --url http://SERVICE:8000 [--short-per-s 10] [--streams 8] …

First it sends requests until it has learnt the right answers (state "warming"). Then it sends (running) until it is stopped or its time is
over, lets live requests end (draining), and stays for a while so that the records can be read (done). It exits with 1 if the service gave
no right answer in time; the reason is on stderr. The service's key, if it needs one, is in LEEWARD_API_KEY and on no command line.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from serving.load import routes
from serving.load.clock import Clock
from serving.load.run import Load, Plan
from serving.load.warmup import WarmUpFailed


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser; the defaults are those of the drill."""
    p = argparse.ArgumentParser(prog="serving.load", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--url", required=True, help="the service, e.g. http://mistral-serve-svc.mistral.svc:8000")
    p.add_argument("--model", default=Plan.model, help="what the service calls its model")
    p.add_argument("--sentence", default=Plan.sentence, help="prompt of every request")
    p.add_argument("--short-per-s", type=float, default=Plan.short_per_s, help="short requests a second; 0: none")
    p.add_argument("--short-tokens", type=int, default=Plan.short_tokens)
    p.add_argument("--streams", type=int, default=Plan.streams, help="streams alive at any time; 0: none")
    p.add_argument("--stream-tokens", type=int, default=Plan.stream_tokens)
    p.add_argument("--patience", type=float, default=Plan.patience_s, help="seconds without a byte: the request hung")
    p.add_argument("--warm-up", type=float, default=120, help="seconds to wait for the right answers")
    p.add_argument("--max-duration", type=float, default=900, help="seconds of sending at most")
    p.add_argument("--linger", type=float, default=600, help="seconds to stay after the last request")
    p.add_argument("--records", type=Path, default=Path("records.jsonl"), help="file of records, must not exist")
    p.add_argument("--port", type=int, default=8080, help="of /records, /status and /stop; 0: any")
    return p


def plan(args: argparse.Namespace) -> Plan:
    """Return the plan for the command line.

    Raises:
        ValueError: a number is negative or there is nothing to send.
    """
    return Plan(
        url=args.url.rstrip("/"),
        model=args.model,
        sentence=args.sentence,
        short_per_s=args.short_per_s,
        short_tokens=args.short_tokens,
        streams=args.streams,
        stream_tokens=args.stream_tokens,
        patience_s=args.patience,
    )


def credentials(env: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with the API key; none if there is no key."""
    key = env.get("LEEWARD_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


async def run(args: argparse.Namespace) -> int | str:
    """Run the load from its start to its end; return 0, or the reason why it failed."""
    if args.records.exists():
        return f"load: {args.records} exists; the records of another load are not overwritten"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=args.patience, sock_read=args.patience)
    # A new connection for each request: a kept one would always lead to the same worker.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, headers=credentials(os.environ)) as session:
        load = Load(plan(args), session, Clock(), args.records)
        async with routes.serve(load, args.port) as port:
            print(f"load: {args.url}, records on port {port}", flush=True)
            try:
                await load.run(warm_up_s=args.warm_up, max_duration_s=args.max_duration)
            except WarmUpFailed as error:
                return f"load: {error}"
            print(f"load: {load.sent} requests sent, all ended", flush=True)
            await asyncio.sleep(args.linger)
    return 0


async def _until_terminated(args: argparse.Namespace) -> int | str:
    """Run, and end at once on SIGTERM: process 1 of a container has no default handler for it, and the records are on disk already."""
    task = asyncio.ensure_future(run(args))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(asyncio.run(_until_terminated(parser().parse_args())))
