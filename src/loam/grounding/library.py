"""Where collections are kept, as the settings say it: a file in the data folder, or a Postgres that gateways share.

Invariant: no message and nothing shown ever holds the password of an address.
"""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from msgspec import Meta, Struct

from loam.core.errors import SettingsError
from loam.grounding.extras import extra
from loam.grounding.index import Index
from loam.grounding.search_settings import SEARCH, SearchSettings
from loam.grounding.store import Library

HIDDEN = "•••"
_ADDRESS = re.compile(
    r"postgres(?:ql)?://(?:[^@/?#]*@)?(?:[^@/?#:\[\]]|:\d|\[[0-9a-fA-F:.]*\])*(?:/[^@?#]*)?(?:\?[^#]*)?"
)


class StoreSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Address of a Postgres with pgvector that several gateways may share, as "
            "postgresql://USER:PASSWORD@HOST/DATABASE; empty: a file in the data folder.",
        ),
    ] = ""
    schema: Annotated[
        str,
        Meta(
            pattern="^[a-z_][a-z0-9_]{0,62}$",
            description="The schema of that database with Loam's tables; made where it is missing.",
        ),
    ] = "loam"


async def open_library(settings: StoreSettings, file: Path, search: SearchSettings = SEARCH) -> Library:
    """The collections that the settings name; in `file` where they name no server.

    Raises StorageError where the file or the server cannot be used, SettingsError for an address that is none and where
    a library is not installed.
    """
    if not settings.url:
        return await Index.open(file, search)
    check_address(settings.url)
    library: Library = await extra("loam.grounding.postgres.store").PostgresStore.open(
        settings.url, schema=settings.schema
    )
    return library


def check_address(url: str) -> None:
    """Raises SettingsError for what is no address; a sign astray in its password would make a host of the rest."""
    if url and not _ADDRESS.fullmatch(url):
        raise SettingsError(
            "grounding.store.url is no address of a Postgres; write postgresql://USER:PASSWORD@HOST/DATABASE, with "
            "signs such as @ / # ? in a password as %40 %2F %23 %3F"
        )


def shown(url: str) -> str:
    """An address as it may be seen: where, and as whom, but no password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    place = f"{name}{colon}{HIDDEN if colon else ''}{at}{host}"
    return urlunsplit((parts.scheme, place, parts.path, HIDDEN if parts.query else "", ""))
