"""Loam's own words at the border: `x-loam-*` headers in, headers and the `loam` object out."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import structs

from loam.core.calls import AGENT, CacheControl, Call, Citation, Controls, SentenceCheck, Step
from loam.core.errors import Failure, refuse
from loam.core.money import dollars
from loam.gateway.http import Header

_CACHE_MODES = ("use", "bypass", "refresh", "no-store")
_GROUNDING_MODES = ("strict", "mark", "off")


def controls_of(headers: dict[str, str], body: Controls) -> Controls:
    """The controls of a call; what the body says outranks the headers. Raises ModelFailure (bad_request)."""
    if not headers:
        return body
    found: dict[str, Any] = {}
    for name, value in headers.items():
        match name:
            case "user" | "collection":
                found[name] = value
            case "grounding":
                found[name] = _grounding(value)
            case "deadline":
                found[name] = _seconds(name, value)
            case "metadata":
                found[name] = value.lower() in ("1", "true", "yes", "on")
            case "fallbacks" | "technique":
                names = [part.strip() for part in value.split(",") if part.strip()]
                found[name] = tuple(names) if name == "fallbacks" else names
            case "tags":
                pairs = (part.partition("=") for part in value.split(",") if part.strip())
                found[name] = {key.strip(): text.strip() for key, _, text in pairs}
            case "cache" | "cache-ttl":
                found["cache"] = _cache(headers)
            case _:
                known = "user, collection, deadline, metadata, fallbacks, tags, cache, cache-ttl, grounding, technique"
                raise refuse("bad_request", f"the header x-loam-{name} is not known; there are: {known}")
    said = {field: getattr(body, field) for field in Controls.__struct_fields__ if getattr(body, field)}
    return Controls(**{**found, **said})


def _cache(headers: dict[str, str]) -> CacheControl:
    mode = headers.get("cache", "use")
    if mode not in _CACHE_MODES:
        raise refuse("bad_request", f"x-loam-cache is {mode!r}; it can be {', '.join(_CACHE_MODES)}")
    ttl = headers.get("cache-ttl")
    return msgspec.convert({"mode": mode, "ttl": None if ttl is None else _seconds("cache-ttl", ttl)}, CacheControl)


def _grounding(mode: str) -> str:
    if mode not in _GROUNDING_MODES:
        raise refuse("bad_request", f"x-loam-grounding is {mode!r}; it can be {', '.join(_GROUNDING_MODES)}")
    return mode


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e7:
        raise refuse("bad_request", f"x-loam-{name} is {value!r}; it must be a number of seconds above 0")
    return seconds


def answer_headers(call: Call, *, final: bool) -> list[Header]:
    """What an answer says of itself. The cost is known only when it is whole (`final`)."""
    trace = call.trace
    identity = call.id.encode()
    headers = [
        (b"x-loam-call-id", identity),
        (b"x-request-id", identity),
        (b"request-id", identity),
        (b"x-loam-attempts", b"%d" % len(trace.attempts)),
        (b"x-loam-cache", (trace.cache or "off").encode()),
    ]
    if trace.model:
        headers.append((b"x-loam-model", _plain(trace.model)))
    if final and trace.cost is not None:
        headers.append((b"x-loam-cost-usd", dollars(trace.cost).encode()))
    return headers


def _plain(name: str) -> bytes:
    """A client's word as a header may hold it: what is not printable ASCII, line ends above all, is percent-encoded."""
    if not (name.isascii() and name.isprintable()):
        name = quote(name, safe="/:@ ", errors="replace")
    return name.encode()


def failure_headers(call: Call | None, call_id: str, failure: Failure) -> list[Header]:
    """The headers of a refusal or failure; SDKs are told not to repeat what Loam already repeated."""
    identity = call_id.encode()
    headers = (
        answer_headers(call, final=True)
        if call is not None
        else [(b"x-loam-call-id", identity), (b"x-request-id", identity), (b"request-id", identity)]
    )
    tried = call is not None and bool(call.trace.attempts)
    if tried or failure.kind == "budget" or failure.should_retry is False:
        headers.append((b"x-should-retry", b"false"))
    if failure.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, -int(-failure.retry_after // 1))))
        headers.append((b"retry-after-ms", b"%d" % max(1, int(failure.retry_after * 1000))))
    return headers


def loam_object(
    call: Call, citations: Sequence[Citation], checks: Sequence[SentenceCheck] = (), steps: Sequence[Step] = ()
) -> dict[str, Any] | None:
    """The `loam` object of an answer, where the client asked for it, its sources need a place, or a run has an id."""
    always = call.model.startswith(AGENT)  # whose run has an id that the client needs
    if not call.controls.metadata and not citations and not checks and not always:
        return None
    trace = call.trace
    grounded = {"grounding": _grounding_of(checks), "checks": [_told(check) for check in checks]} if checks else {}
    return {
        "call_id": call.id,
        "model": trace.model,
        "cost_usd": None if trace.cost is None else dollars(trace.cost),
        "attempts": len(trace.attempts),
        "cache": trace.cache or "off",
        "route": trace.route,
        "warnings": trace.warnings,
        "citations": [structs.asdict(citation) for citation in citations],
        **grounded,
        **_techniques_of(steps),
    }


def _techniques_of(steps: Sequence[Step]) -> dict[str, Any]:
    """What each technique says of its work in the end."""
    sums = [{"name": step.technique, **step.details} for step in steps if step.event == "done"]
    return {"techniques": sums} if sums else {}


def _grounding_of(checks: Sequence[SentenceCheck]) -> str:
    """What an answer as a whole is worth: every statement supported, some of them, or none delivered."""
    stated = [check for check in checks if check.verdict != "free"]
    if not any(check.released for check in stated):
        return "abstained"
    return "grounded" if all(check.released and check.verdict == "supported" for check in stated) else "partial"


def _told(check: SentenceCheck) -> SentenceCheck:
    """The check as the client may see it: what was held back stays so, and quotes that support are citations."""
    flagged = check.released and check.verdict in ("unsupported", "contradicted")
    return structs.replace(check, text=check.text if check.released else "", evidence=check.evidence if flagged else ())
