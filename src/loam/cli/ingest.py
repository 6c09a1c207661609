"""`loam ingest`: folders, files and web pages into a collection, once or for as long as they change."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from loam.cli.mirroring import Labelled, Mirrored, mirror
from loam.cli.reach import Gateway, gateway
from loam.cli.show import console
from loam.cli.sites import Site, is_address
from loam.core.errors import LoamError
from loam.grounding.documents import READS
from loam.grounding.folders import listed, stamp

_MOST_FILES = 1_000_000  # the gateway has its own limit, and says so
_STILL = 2  # looks that must find a folder unchanged before it is taken in


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is no name=value")
    return name, value


@click.command(name="ingest")
@click.argument("places", nargs=-1, required=True, metavar="PATH|URL...")
@click.option("--into", "collection", required=True, help="The collection; it is made when it is not there.")
@click.option("--source", default="", help="What to call a folder that moves; its path by default.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Said of every document, to filter by.")
@click.option("--for", "readers", multiple=True, metavar="READER", help="Who may read: user:NAME, team:NAME.")
@click.option("--pages", default=200, show_default=True, help="How many pages of a site at most.")
@click.option("--private", is_flag=True, help="Let URLs lead to addresses of this machine or network.")
@click.option("--watch", is_flag=True, help="Stay, and take in what changes.")
@click.option("--interval", default=2.0, show_default=True, help="Seconds between two looks with --watch.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON, one a line.")
def command(places: tuple[str, ...], collection: str, as_json: bool, **options: Any) -> None:
    """Make a collection hold what each PATH (a folder or a file) or URL (a page, a sitemap, an llms.txt) holds now.

    Unchanged documents cost nothing, vanished ones leave; run it again whenever something changed.
    """
    labels = Labelled(dict(map(_pair, options["metadata"])), options["readers"])
    if options["source"] and len(places) > 1:
        raise click.UsageError("--source names one folder; give one PATH with it")
    folders = [Path(place) for place in places if not is_address(place)]
    with gateway() as reached:
        before = {folder: _state(folder) for folder in folders} if options["watch"] else {}
        for place in places:
            if is_address(place):
                site = Site(place, most=options["pages"], private=options["private"])
                _take(lambda tell, site=site: site.mirror(reached, collection, labels, tell), as_json)
            else:
                _take_folder(reached, collection, place, options["source"], labels=labels, as_json=as_json)
        if before:
            _watch(
                before,
                options["interval"],
                lambda path: _take_folder(
                    reached, collection, str(path), options["source"], labels=labels, as_json=as_json
                ),
            )
    if not as_json:
        click.echo(f'Ask with: loam ask "…" --in {collection}')


def _take_folder(
    reached: Gateway, collection: str, place: str, source: str, *, labels: Labelled, as_json: bool
) -> None:
    folder = listed(Path(place), _MOST_FILES)
    named = source or str(folder.root)
    _take(lambda tell: mirror(reached, collection, folder, source=named, labels=labels, tell=tell), as_json)


def _take(work: Callable[[Callable[[str, int, int], None]], Mirrored], as_json: bool) -> None:
    """Shows how the work goes on, then what it did."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
        disable=as_json,
    )
    with bar:
        task = bar.add_task("looking")

        def tell(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total or None)

        done = work(tell)
    if as_json:
        click.echo(json.dumps({**done.report, "problems": done.problems, "skipped": done.skipped}, ensure_ascii=False))
    else:
        _tell(done)


def _tell(done: Mirrored) -> None:
    report = done.report
    collection = report["collection"]
    click.echo(
        f"{collection['name']}: {report['added']} added, {report['changed']} changed, {report['unchanged']} unchanged, "
        f"{report['removed']} removed"
        + (f"; {done.skipped} of other formats left out (Loam reads {READS})" if done.skipped else "")
    )
    for error in (*done.problems, *(error["message"] for error in report["errors"])):
        click.secho(f"  {error}", fg="yellow", err=True)
    for remark in report["remarks"]:
        click.secho(f"  {remark['path']}: {remark['message']}", dim=True, err=True)


def _watch(taken: dict[Path, dict[str, str]], interval: float, take: Callable[[Path], None]) -> None:
    """Looks again and again; a folder that changed is taken in once it has been still for two looks.

    `taken` is how each folder was before it was taken in, so what changed meanwhile is seen.
    """
    seen = {folder: (state, 0) for folder, state in taken.items()}
    click.echo(f"Watching {', '.join(map(str, taken))}; Ctrl-C ends it.", err=True)
    while True:
        time.sleep(interval)
        for folder in list(taken):
            state = _state(folder)
            still = seen[folder][1] + 1 if state == seen[folder][0] else 0
            seen[folder] = (state, still)
            if state != taken[folder] and still >= _STILL - 1:
                taken[folder] = state
                try:
                    take(folder)
                except LoamError as error:
                    click.secho(f"  {error}", fg="red", err=True)


def _state(folder: Path) -> dict[str, str]:
    """Every file's stamp, however young: a folder that is gone for now has none."""
    try:
        files = listed(folder, _MOST_FILES)
    except LoamError:
        return {}
    state: dict[str, str] = {}
    for name in files.files:
        try:
            state[name] = stamp(files.path(name), now=time.time_ns() * 2)
        except OSError:
            state[name] = "unreadable"
    return state
