"""`loam lint`: what a prompt leaves open, its requirements as checks, and the proof that another one is better."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import msgspec
from msgspec import structs

from loam import __version__
from loam.cli.holding import answers_in, checks_in
from loam.cli.holding import tell as tell_report
from loam.cli.proving import Comparison, compared, tell
from loam.config import load
from loam.evaluation.checks import scored
from loam.prompting.lint.finding import SEVERITIES, Finding
from loam.prompting.lint.linter import lint, severity_of
from loam.prompting.lint.requirements import requirements
from loam.prompting.lint.rules import RULES
from loam.prompting.lint.sarif import sarif
from loam.prompting.lint.settings import LintSettings

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command(name="lint")
@click.argument("paths", nargs=-1)
@click.option("--format", "form", type=click.Choice(["plain", "json", "sarif"]), default="plain", show_default=True)
@click.option(
    "--fail-on",
    type=click.Choice([*SEVERITIES, "never"]),
    default="warning",
    show_default=True,
    help="Exit with status 1 where a finding is as grave as this.",
)
@click.option("--rule", "changes", multiple=True, metavar="NAME=LEVEL", help="Level: off, note, warning or error.")
@click.option("--thorough", is_flag=True, help="Tell of every missing part; finds more, and is wrong more often.")
@click.option("--rules", "listing", is_flag=True, help="List the rules and why each is there.")
@click.option("--requirements", "wanted", is_flag=True, help="Print what the prompt requires, as checks in JSON.")
@click.option("--prove", "better", metavar="PROMPT", help="Ask this prompt too, on every case of --set, and compare.")
@click.option("--set", "cases", metavar="FILE", help="With --prove: cases, one JSON object a line.")
@click.option(
    "--checks",
    metavar="FILE",
    help="With --prove or --answers: checks as --requirements prints them; without it, those that the prompt requires.",
)
@click.option(
    "--answers", metavar="FILE", help='Hold recorded answers, one JSON text or {"answer"} a line, against checks.'
)
@click.option("--model", default="", help="With --prove: who is asked; without it, whom the prompt names.")
def command(
    paths: tuple[str, ...],
    form: str,
    changes: tuple[str, ...],
    *,
    thorough: bool,
    listing: bool,
    wanted: bool,
    better: str | None,
    **wish: Any,
) -> None:
    """Find what the prompts in PATHS leave open: files, folders (their *.md), or "-" for what is piped in.

    \b
    loam lint prompts/
    loam lint support.md --format sarif > lint.sarif
    loam lint support.md --requirements > checks.json
    loam lint --checks checks.json --answers answers.jsonl
    loam lint vague.md --prove specific.md --set cases.jsonl --model fast
    """
    settings = _settings(changes, thorough=thorough)
    if listing:
        _list(settings)
        return
    if wish["answers"] is not None:
        _hold(dict(_read(paths)) if paths or not wish["checks"] else {}, form, wish)
        return
    texts = dict(_read(paths))
    if wanted:
        _only(texts, "--requirements")
        found = [check for text in texts.values() for check in requirements(text)]
        click.echo(json.dumps({"checks": msgspec.to_builtins(found)}, indent=2, ensure_ascii=False))
    elif better is not None:
        _only(texts, "--prove")
        [text] = texts.values()
        comparison = compared(text, Path(better).read_text("utf-8"), **_of_proof(wish))
        _show_proof(comparison, form)
    else:
        _show(texts, settings, form, wish["fail_on"])


def _show(texts: dict[str, str], settings: LintSettings, form: str, fail_on: str) -> None:
    findings = [finding for file, text in texts.items() for finding in lint(text, file=file, settings=settings)]
    if form == "json":
        click.echo(json.dumps({"findings": msgspec.to_builtins(findings)}, indent=2, ensure_ascii=False))
    elif form == "sarif":
        click.echo(json.dumps(sarif(findings, version=__version__), indent=2, ensure_ascii=False))
    else:
        _tell(findings, len(texts))
    grave = SEVERITIES[SEVERITIES.index(cast("Any", fail_on)) :] if fail_on != "never" else ()
    if any(finding.severity in grave for finding in findings):
        raise SystemExit(1)


def _hold(texts: dict[str, str], form: str, wish: dict[str, Any]) -> None:
    if wish["checks"]:
        checks = checks_in(wish["checks"])
    else:
        _only(texts, "--answers")
        checks = tuple(check for text in texts.values() for check in requirements(text))
    report = scored(checks, answers_in(wish["answers"]))
    click.echo(
        json.dumps(msgspec.to_builtins(report), indent=2, ensure_ascii=False) if form == "json" else tell_report(report)
    )
    if report.passed < report.answers and wish["fail_on"] != "never":
        raise SystemExit(1)


def _tell(findings: list[Finding], files: int) -> None:
    for one in findings:
        place = click.style(f"{one.file}:{one.line}", bold=True)
        click.echo(f"{place} {click.style(one.severity, fg=_COLOURS[one.severity])} {one.rule}: {one.message}")
        click.echo(f"    {one.fix}")
    counted = f"{len(findings)} finding{'s' * (len(findings) != 1)}" if findings else "nothing to mend"
    click.echo(f"{counted} in {files} prompt{'s' * (files != 1)}", err=True)


def _settings(changes: tuple[str, ...], *, thorough: bool) -> LintSettings:
    """Those of loam.toml, with the command's own on top. Raises SettingsError."""
    settings = load(os.environ).lint
    rules: dict[str, Any] = dict(settings.rules)
    for change in changes:
        name, _, level = change.partition("=")
        if level not in ("off", *SEVERITIES):
            raise click.UsageError(f"--rule {change}: write NAME=LEVEL, the level being off, note, warning or error")
        rules[name] = level
    return structs.replace(settings, rules=rules, thorough=thorough or settings.thorough)


def _list(settings: LintSettings) -> None:
    for rule in RULES:
        level = severity_of(rule, settings) or "off"
        click.echo(f"{click.style(rule.name, bold=True)} ({level})\n    {rule.why}")


def _read(paths: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The texts by the names they are told under."""
    if not paths:
        raise click.UsageError('name a file or a folder, or "-" for what is piped in')
    for name in paths:
        if name == "-":
            yield "-", sys.stdin.read()
            continue
        path = Path(name)
        files = sorted(path.rglob("*.md")) if path.is_dir() else [path]
        for file in files:
            try:
                yield str(file), file.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise click.UsageError(f"cannot read {file}: {error}") from error


def _only(texts: dict[str, str], option: str) -> None:
    if len(texts) != 1:
        raise click.UsageError(f"{option} takes one prompt, and there are {len(texts)}")


def _of_proof(wish: dict[str, Any]) -> dict[str, Any]:
    if not wish["cases"]:
        raise click.UsageError("--prove needs --set: a file with one case a line")
    return {"cases": wish["cases"], "checks": wish["checks"], "model": wish["model"]}


def _show_proof(comparison: Comparison, form: str) -> None:
    if form == "json":
        click.echo(json.dumps(msgspec.to_builtins(comparison), indent=2, ensure_ascii=False))
    else:
        click.echo(tell(comparison))
