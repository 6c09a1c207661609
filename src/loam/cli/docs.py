"""`loam docs`: the reference pages, printed from the program itself so that they cannot say anything else.

Knows how to read settings, commands, operations and faults; every word of theirs is their own.
Invariant: the same program prints the same bytes, on any machine.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import click
import msgspec
from msgspec import Struct, inspect

from loam.cli.main import COMMANDS, program
from loam.cli.reach import Gateway
from loam.config import Settings, parse
from loam.prompting.capabilities import Capabilities
from loam.prompting.technique import TECHNIQUES
from loam.providers.faults import FAULTS
from loam.serving import running

_WIDTH = 100
_PRINTED = "<!-- Printed by `loam docs reference`; change the program, not this page. -->"


class Setting(Struct, frozen=True):
    """One thing that loam.toml may say, in the `section` where it says it (empty for the top of the file)."""

    section: str
    name: str
    type: str
    default: str
    description: str


@click.group(name="docs")
def command() -> None:
    """Print the reference pages."""


@command.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def reference(folder: Path) -> None:
    """Write the reference pages into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf-8")
        click.echo(folder / name)


def settings_page() -> str:
    """Every setting, section by section."""
    by_section: dict[str, list[Setting]] = {}
    for setting in every_setting(Settings):
        by_section.setdefault(setting.section, []).append(setting)
    lines = [
        "Loam reads `loam.toml` in the working directory, or the file that `--config` or `LOAM_CONFIG` names. No file "
        "is fine too. An environment variable outranks the file: `LOAM_SERVER__PORT=8080` sets `port` of "
        "`[server]`; `LOAM_DATA`, `LOAM_HOST` and `LOAM_PORT` are short forms. A text `env:NAME` stands for the "
        "environment variable `NAME`. `loam config check` says what is wrong, `loam config show` what it all comes to.",
    ]
    for section, settings in by_section.items():
        rows = [(f"`{setting.name}`", *_told(setting)) for setting in settings]
        lines += ["", f"## `{section}`" if section else "## Top of the file", ""]
        lines += _table(("setting", "type", "default", "meaning"), rows)
    return _page("Settings", lines)


def techniques_page() -> str:
    """Every technique with its options, and what is known of the providers."""
    lines = [
        'A call asks for a technique with `"loam": {"technique": …}`: a name, an object with a `name` and options, or '
        "a list of these, the outermost first. The header `x-loam-technique` takes names alone.",
    ]
    for name, (options, _) in TECHNIQUES.items():
        rows = [
            (f"`{option.section.strip('[]')}{'[].' * bool(option.section)}{option.name}`", *_told(option))
            for option in every_setting(options)
        ]
        lines += ["", f"## `{name}`", "", *_table(("option", "type", "default", "meaning"), rows)]
    lines += [
        "",
        "## What providers take",
        "",
        "A row is for a kind of provider and some of its models; the first counts.",
    ]
    known = Capabilities.load().rows
    rows = [
        (
            row.kind,
            ", ".join(row.models),
            row.enforces,
            ", ".join(row.drops),
            row.limits,
            row.calling,
            row.date,
            row.source if row.verified else f"**not verified**: {row.source}",
        )
        for row in known
    ]
    lines += [
        "",
        *_table(("kind", "models", "enforces", "words left out", "not with", "calls tools", "of", "source"), rows),
    ]
    return _page("Techniques", lines)


def _told(setting: Setting) -> tuple[str, str, str]:
    return setting.type, setting.default, setting.description


def every_setting(root: type[Struct]) -> Iterator[Setting]:
    """The settings of a struct and of the structs in it, each struct's own before those of its parts."""
    info = inspect.type_info(root)
    assert isinstance(info, inspect.StructType)
    yield from _settings_in(info, "", "")


def _settings_in(struct: inspect.StructType, path: str, header: str) -> Iterator[Setting]:
    parts: list[tuple[inspect.StructType, str, str]] = []
    for field in struct.fields:
        below = f"{path}.{field.encode_name}".lstrip(".")
        match _bare(field.type):
            case inspect.StructType() as inner:
                parts.append((inner, below, f"[{below}]"))
            case inspect.DictType(value_type=inspect.StructType() as inner):
                parts.append((inner, f"{below}.NAME", f"[{below}.NAME]"))
            case inspect.VarTupleType(item_type=inspect.StructType() as inner):
                parts.append((inner, below, f"[[{below}]]"))
            case kind:
                yield Setting(header, field.encode_name, _type(kind), _default(field), _description(field.type))
    for inner, below, title in parts:
        yield from _settings_in(inner, below, title)


def _bare(kind: inspect.Type) -> inspect.Type:
    """The type without its description, and without the None that a setting left out stands for."""
    if isinstance(kind, inspect.Metadata):
        return _bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        rest = [_bare(inner) for inner in kind.types if not isinstance(inner, inspect.NoneType)]
        return rest[0] if len(rest) == 1 else kind
    return kind


def _description(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata):
        schema = cast("dict[str, Any]", kind.extra_json_schema or {})  # pyright: ignore[reportUnknownMemberType]
        return schema.get("description", "") or _description(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next((text for text in map(_description, kind.types) if text), "")
    return ""


def _type(kind: inspect.Type) -> str:
    match _bare(kind):
        case inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return f"list of {_type(item)}"
        case inspect.TupleType(item_types=items):
            return f"[{', '.join(map(_type, items))}]"
        case inspect.DictType(value_type=value):
            return f"table of {_type(value)}"
        case inspect.UnionType(types=types):
            return " or ".join(_type(inner) for inner in types)
        case inspect.IntType() | inspect.FloatType() as number:
            return _number(number)
        case other:
            return _NAMES[type(other)]


_NAMES: dict[type, str] = {
    inspect.StrType: "text",
    inspect.BoolType: "`true` or `false`",
    inspect.DecimalType: "decimal",
    inspect.AnyType: "anything",
    inspect.NoneType: "nothing",
}


def _number(kind: inspect.IntType | inspect.FloatType) -> str:
    bounds = (("above", kind.gt), ("from", kind.ge), ("below", kind.lt), ("to", kind.le))
    name = "whole number" if isinstance(kind, inspect.IntType) else "number"
    return " ".join([name, *(f"{word} {bound:g}" for word, bound in bounds if bound is not None)])


def _default(field: inspect.Field) -> str:
    if field.required:
        return "**must be given**"
    value: Any = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if value is None:
        return "–"
    plain = str(value) if isinstance(value, Decimal) else msgspec.to_builtins(value)
    return f"`{json.dumps(plain, ensure_ascii=False)}`"


def commands_page() -> str:
    """Every command's help."""
    lines = [
        "Commands that list something take `--json`, for programs. All but `serve` speak to the gateway at `LOAM_URL` "
        "(with the key in `LOAM_API_KEY`), else to the one that runs in the data folder, else to one that they start "
        "for as long as they take."
    ]
    for name in COMMANDS:
        found = program.get_command(click.Context(program), name)
        assert found is not None
        lines += _help(found, f"loam {name}", 2)
    return _page("Commands", lines)


def _help(found: click.Command, name: str, level: int) -> Iterator[str]:
    context = click.Context(
        found, info_name=name, terminal_width=_WIDTH, max_content_width=_WIDTH, help_option_names=["-h", "--help"]
    )
    text = "\n".join(line.rstrip() for line in found.get_help(context).splitlines())
    yield from ("", f"{'#' * level} {name}", "", "```text", text, "```")
    if isinstance(found, click.Group):
        for inner in found.list_commands(context):
            below = found.get_command(context, inner)
            assert below is not None
            yield from _help(below, f"{name} {inner}", level + 1)


def faults_page() -> str:
    """What the faulty upstream can do."""
    lines = [
        "`loam faulty-upstream` speaks OpenAI's and Anthropic's wire format and fails as the model's name says. Add "
        "`#anything` to a name to give it a count of its own.",
        "",
        *_table(("model", "what happens"), [(f"`{fault.name}`", fault.description) for fault in FAULTS]),
    ]
    return _page("Faults", lines)


def native_page() -> str:
    """The native API, as a gateway that runs describes it."""
    with tempfile.TemporaryDirectory() as data, running(parse({"data": data, "server": {"port": 0}})) as gateway:
        described: dict[str, Any] = Gateway(gateway.url).get("/loam/v1/openapi.json")
    schemas: dict[str, Any] = described["components"]["schemas"]
    lines = [
        "Send a key as `Authorization: Bearer sk-loam-…`; on loopback none is needed. A running gateway gives this "
        "page as OpenAPI 3.1 at `/loam/v1/openapi.json`.",
    ]
    for path, methods in sorted(described["paths"].items()):
        for method, operation in methods.items():
            lines += ["", f"## {method.upper()} `{path}`", "", *_operation(operation)]
    lines += ["", "## Shapes"]
    for name, schema in sorted(schemas.items()):
        lines += ["", f"### {name}", ""]
        lines += [_one_line(schema["description"]), ""] if schema.get("description") else []
        lines += _fields(schema)
    return _page("Native API", lines)


def _operation(operation: Mapping[str, Any]) -> Iterator[str]:
    yield operation["summary"] + ("." if operation.get("security") else ". No key is needed.")
    query = [given for given in operation.get("parameters", ()) if given["in"] == "query"]
    if query:
        rows = [(f"`{p['name']}`", _shape(p["schema"]), p["schema"].get("description", "")) for p in query]
        yield from ("", *_table(("query", "type", "meaning"), rows))
    body = operation.get("requestBody")
    if body:
        yield from ("", f"Body: {_shape(body['content']['application/json']['schema'])}.")
    for status, answer in operation["responses"].items():
        for media, content in answer.get("content", {}).items():
            if status != "default":
                yield from ("", f"Answers {status} with {_shape(content['schema'])} ({media}).")


def _fields(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required", ())
    rows = [
        (f"`{name}`", _shape(field), "yes" if name in required else "", field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("field", "type", "always there", "meaning"), rows) if rows else [_shape(schema)]


def _shape(schema: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(f"`{value}`" if value else "nothing" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(map(_shape, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_shape(schema.get('items') or {})}"
    return str(schema.get("type", "anything"))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(_one_line(cell).replace('|', '&#124;') for cell in row)} |" for row in rows),
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _page(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"# {title}", "", _PRINTED, "", *lines]) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "techniques.md": techniques_page,
    "commands.md": commands_page,
    "native-api.md": native_page,
    "faults.md": faults_page,
}
"""The reference: a page's file name, and what prints it."""
