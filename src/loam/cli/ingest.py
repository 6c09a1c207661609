"""`loam ingest`: documents into a collection."""

import json
from pathlib import Path
from typing import Any

import click
from rich.progress import track

from loam.cli.reach import gateway
from loam.cli.show import console

_TEXT = (".md", ".markdown", ".txt", ".text")
_BATCH = 50


@click.command(name="ingest")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--into", "collection", required=True, help="The collection; it is made when it is not there.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(path: Path, collection: str, as_json: bool) -> None:
    """Take the documents at PATH (Markdown and text, a file or a folder) into a collection.

    Unchanged documents cost nothing; run it again whenever the folder changed.
    """
    root = path if path.is_dir() else path.parent
    files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    taken = [file for file in files if file.suffix.lower() in _TEXT]
    if not taken:
        raise click.UsageError(f"nothing at {path} ends in {', '.join(_TEXT)}")
    reports: list[dict[str, Any]] = []
    problems: list[str] = []
    with gateway() as reached:
        batches = [taken[start : start + _BATCH] for start in range(0, len(taken), _BATCH)]
        for batch in track(batches, "Taking in", console=console(), transient=True, disable=as_json):
            documents: list[dict[str, str]] = []
            for file in batch:
                try:
                    documents.append({"name": str(file.relative_to(root)), "text": file.read_text("utf-8")})
                except (OSError, UnicodeDecodeError) as error:
                    problems.append(f"{file}: {error}")
            if documents:
                send = f"/loam/v1/collections/{collection}/documents"
                reports.append(reached.send("POST", send, {"documents": documents}))
    if as_json:
        click.echo(json.dumps({"reports": reports, "problems": problems}, indent=2, ensure_ascii=False))
        return
    _tell(reports, problems, collection, skipped=len(files) - len(taken))


def _tell(reports: list[dict[str, Any]], problems: list[str], collection: str, *, skipped: int) -> None:
    def total(name: str) -> int:
        return sum(value if isinstance(value, int) else len(value) for value in (r.get(name, 0) for r in reports))

    click.echo(
        f"{collection}: {total('added')} added, {total('changed')} changed, {total('unchanged')} unchanged"
        + (f", {skipped} of other formats left out" if skipped else "")
    )
    for report in reports:
        problems += [f"{error['path']}: {error['message']}" for error in report.get("errors", ())]
    for problem in problems:
        click.secho(f"  {problem}", fg="yellow", err=True)
    click.echo(f'Ask with: loam ask "…" --in {collection}')
