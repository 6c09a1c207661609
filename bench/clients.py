"""Which HTTP client should the gateway use towards its upstreams?

Runs one pass-through proxy a client (`bench.proxies`) on one core, load and mock upstream on the other, in interleaved
rounds, and prints two tables with their ratios to the floor. What breaks well or badly is in `bench.client_faults`.

    python -m bench.clients --rounds 3 --seconds 3
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.measure import LOAD_CORE, SERVER_CORE, Command, Server, end_servers_on_sigterm, started, table
from bench.rounds import (
    CHUNKS,
    DELAY_MS,
    Contender,
    Plan,
    event_streams,
    ratio,
    request_table,
    stream_table,
    whole_answers,
)

ROOT = Path(__file__).parent.parent
MOCK_PORT = 9100
FLOOR = "raw (floor)"
CLIENTS = {
    FLOOR: ("raw_app", {}),
    "aiohttp": ("aiohttp_app", {}),
    "pyreqwest": ("pyreqwest_app", {}),
    "pyreqwest, multi-thread runtime": ("pyreqwest_app", {"BENCH_RUNTIME": "multi"}),
}


def mock(*, port: int = MOCK_PORT) -> Command:
    """The upstream, as a command."""
    flags = ["--port", str(port), "--chunks", str(CHUNKS), "--delay-ms", str(DELAY_MS)]
    return Command("mock", [sys.executable, "-m", "bench.upstream", *flags], port, "/v1/models", folder=ROOT)


def proxy(factory: str, environment: dict[str, str], *, port: int) -> Command:
    """Uvicorn around one of the proxies."""
    argv = [sys.executable, "-m", "uvicorn", "--factory", f"bench.proxies:{factory}", "--port", str(port)]
    argv += ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
    upstream = {"BENCH_UPSTREAM": f"http://127.0.0.1:{MOCK_PORT}"}
    return Command(factory, argv, port, environment=upstream | environment, folder=ROOT)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", nargs="*", default=list(CLIENTS), metavar="CLIENT", help=", ".join(CLIENTS))
    options = parser.parse_args()
    end_servers_on_sigterm()
    os.sched_setaffinity(0, {LOAD_CORE})
    plan = Plan(rounds=options.rounds, seconds=options.seconds)
    with ExitStack() as stack:
        upstream = stack.enter_context(started(mock(), core=LOAD_CORE))
        contenders = []
        for index, name in enumerate(options.only):
            command = proxy(*CLIENTS[name], port=9200 + index)
            server = stack.enter_context(started(command, core=SERVER_CORE))
            contenders.append(Contender(name, f"http://127.0.0.1:{command.port}/v1/chat/completions", server))
        _report(contenders, plan, upstream)


def _report(contenders: Sequence[Contender], plan: Plan, upstream: Server) -> None:
    say = lambda line: print(line, file=sys.stderr)  # noqa: E731
    direct = Contender("direct", f"http://127.0.0.1:{MOCK_PORT}/v1/chat/completions", None)
    calls = whole_answers([direct, *contenders], plan, upstream, say)
    print(request_table(calls), "\n")
    events = event_streams([direct, *contenders], plan, upstream, say)
    print(stream_table(events), "\n")
    most, widest = plan.concurrencies[-1], plan.streams[-1]
    rows = []
    for one in contenders:
        per_s = ratio(calls, one.name, FLOOR, most, lambda sample: sample.result.per_s)
        cpu = ratio(calls, one.name, FLOOR, most, lambda sample: sample.cpu_us)
        cpu_event = ratio(events, one.name, FLOOR, widest, lambda sample: sample.cpu_us)
        assert one.server
        memory = f"{one.server.rss_idle_mib:.0f} → {one.server.rss_mib():.0f}"
        rows.append([one.name, f"{per_s:.2f}", f"{cpu:.2f}", f"{cpu_event:.2f}", f"{one.server.start_s:.2f}", memory])
    head = ["to the floor", f"req/s c={most}", f"CPU/req c={most}", f"CPU/event {widest} streams"]
    print(table([*head, "start s", "RSS idle → after MiB"], rows))


if __name__ == "__main__":
    main()
