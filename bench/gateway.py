"""Loam beside its peers: each gateway alone on one core, load and mock upstream on the other, interleaved rounds.

Before anything is timed, every gateway must answer one whole call and one stream, right and through the mock.

    python -m bench.gateway                    # Loam, and the peers that `python -m bench.peers` installed
    python -m bench.gateway --only LiteLLM TensorZero --rounds 1 --seconds 2
    python -m bench.gateway --only Loam --loam "loam serve --config other.toml --port {port} --data {data}"
"""

import argparse
import http.client
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.clients import MOCK_PORT, mock
from bench.load import Requests, Streams
from bench.measure import LOAD_CORE, SERVER_CORE, Command, end_servers_on_sigterm, median, started, table
from bench.peers import LOAM_PROGRAM, PEERS, Peer
from bench.rounds import (
    CHUNKS,
    Contender,
    Plan,
    Sample,
    event_streams,
    ratio,
    request_table,
    stream_table,
    whole_answers,
)
from bench.upstream import MARKER

ROOT = Path(__file__).parent.parent
LOAM_PORT = 9300
LOAM = f"{LOAM_PROGRAM} serve --config bench/loam.toml --port {{port}} --data {{data}}"
DIRECT = Contender("direct", f"http://127.0.0.1:{MOCK_PORT}/v1/chat/completions", None)


def say(line: str) -> None:
    """Progress, apart from the report."""
    print(line, file=sys.stderr, flush=True)


def start_loam(options: argparse.Namespace, stack: ExitStack) -> Contender:
    """Loam from a command line, running on an empty data folder, with a key and a budget that never ends."""
    data = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-loam-"))
    line = options.loam.format(port=LOAM_PORT, data=data)
    command = Command("loam", shlex.split(line), LOAM_PORT, "/health", {"PYTHONPATH": str(ROOT / "src")}, ROOT)
    server = stack.enter_context(started(command, core=SERVER_CORE))
    made = _send("POST", LOAM_PORT, "/loam/v1/keys", {"name": "bench", "user": "bench"})
    limit = {"scope": "user", "subject": "bench", "period": "ever", "tokens": 10**12, "money": 10**12}
    _send("POST", LOAM_PORT, "/loam/v1/budgets", limit)
    url = f"http://127.0.0.1:{LOAM_PORT}/v1/chat/completions"
    return Contender("Loam", url, server, {"Authorization": f"Bearer {made['secret']}"})


def start_peer(peer: Peer, stack: ExitStack) -> Contender:
    """A peer, running."""
    server = stack.enter_context(started(peer.command(), core=SERVER_CORE))
    url = f"http://127.0.0.1:{server.port}{peer.path}"
    return Contender(peer.name, url, server, peer.headers, peer.model, peer.most_streams)


def check(contender: Contender) -> None:
    """One whole call and one stream must come back right, and must have reached the mock; else RuntimeError."""
    before = _reached_mock()
    answer = json.loads(_call(contender, stream=False))
    if not answer["choices"][0]["message"]["content"].startswith("The ground") or not answer["usage"]["total_tokens"]:
        raise RuntimeError(f"{contender.name} answered a whole call wrongly: {answer}")
    events = _call(contender, stream=True)
    if events.count(MARKER) != CHUNKS or b"data: [DONE]" not in events:
        raise RuntimeError(f"{contender.name} delivered {events.count(MARKER)} of {CHUNKS} deltas: {events[-300:]!r}")
    if (reached := _reached_mock() - before) != 2:
        raise RuntimeError(f"{contender.name} made {reached} upstream calls for 2 calls")


def _call(contender: Contender, *, stream: bool) -> bytes:
    _, _, body = contender.target(stream=stream).wire.partition(b"\r\n\r\n")
    parts = urlsplit(contender.url)
    return _request("POST", parts.port or 80, parts.path, body, contender.headers)


def _reached_mock() -> int:
    return int(_send("GET", MOCK_PORT, "/counters")["requests"])


def _send(method: str, port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    return json.loads(_request(method, port, path, json.dumps(body).encode() if body else b"", {}))


def _request(method: str, port: int, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    if response.status >= 300:
        raise RuntimeError(f"{method} {path} on port {port} answered {response.status}: {text[:500]!r}")
    return text


def start_all(options: argparse.Namespace, stack: ExitStack) -> list[Contender]:
    """Every gateway that was asked for, starts and answers right; says why the others take no part."""
    contenders = []
    for name in options.only:
        peer = next((peer for peer in PEERS if peer.name == name), None)
        if peer and not peer.installed:
            say(f"{name} takes no part: not installed; run `python -m bench.peers {name.lower()}`")
            continue
        try:
            contender = start_peer(peer, stack) if peer else start_loam(options, stack)
            check(contender)
        except (RuntimeError, OSError, ValueError, LookupError) as error:
            say(f"{name} takes no part: {error}")
            continue
        contenders.append(contender)
        say(f"{name} answers right, whole and streamed")
    return contenders


def cost_table(contenders: Sequence[Contender]) -> str:
    """Start and memory."""
    rows = []
    for contender in contenders:
        assert contender.server
        memory = f"{contender.server.rss_idle_mib:.0f} → {contender.server.rss_mib():.0f}"
        rows.append([contender.name, f"{contender.server.start_s:.2f}", memory])
    return table(["", "start s", "RSS idle → after all runs, MiB"], rows)


def ratio_table(
    calls: Sequence[Sample[Requests]], events: Sequence[Sample[Streams]], contenders: Sequence[Contender], plan: Plan
) -> str:
    """Each gateway over LiteLLM and over TensorZero, at the highest concurrency; and the latency it adds."""
    most, rows = plan.concurrencies[-1], []
    few, many = plan.streams[0], next((count for count in plan.streams if count >= 256), plan.streams[-1])
    for contender in contenders:
        p50 = _p50(calls, contender.name) - _p50(calls, DIRECT.name)
        row = [contender.name, f"{p50:.2f}"]
        for rival in ("LiteLLM", "TensorZero"):
            row.append(f"{ratio(calls, contender.name, rival, most, lambda one: one.result.per_s):.2f}")
            row.append(f"{ratio(calls, contender.name, rival, most, lambda one: one.cpu_us):.3f}")
        row.append(f"{ratio(events, contender.name, 'LiteLLM', few, lambda one: one.cpu_us):.3f}")
        row.append(f"{ratio(events, contender.name, 'TensorZero', many, lambda one: one.cpu_us):.3f}")
        rows.append(row)
    head = ["", "added p50 ms c=1"]
    head += [f"{what}/{rival}" for rival in ("LiteLLM", "TensorZero") for what in ("req/s", "CPU")]
    return table([*head, f"CPU per event/LiteLLM, {few} streams", f"/TensorZero, {many} streams"], rows)


def _p50(calls: Sequence[Sample[Requests]], name: str) -> float:
    alone = [one.result for one in calls if one.contender == name and one.result.concurrency == 1]
    return median([result.p50_ms for result in alone])


def main() -> None:
    """The command line."""
    names = ["Loam", *[peer.name for peer in PEERS]]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--streams", type=int, nargs="+", default=[64, 256, 300, 400])
    parser.add_argument("--loam", default=LOAM, metavar="COMMAND", help=f"how to start Loam; by default {LOAM}")
    options = parser.parse_args()
    end_servers_on_sigterm()
    os.sched_setaffinity(0, {LOAD_CORE})
    plan = Plan(options.rounds, options.seconds, streams=options.streams)
    with ExitStack() as stack:
        upstream = stack.enter_context(started(mock(), core=LOAD_CORE))
        contenders = start_all(options, stack)
        calls = whole_answers([DIRECT, *contenders], plan, upstream, say)
        events = event_streams([DIRECT, *contenders], plan, upstream, say)
        tables = [request_table(calls), stream_table(events), ratio_table(calls, events, contenders, plan)]
        print("\n\n".join([*tables, cost_table(contenders)]))


if __name__ == "__main__":
    main()
