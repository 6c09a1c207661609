"""E-mail: one message, its subject for a title.

Knows the parts of a message. Text is preferred to HTML; attachments are named, not opened, for a file in a message is
a document of its own.
Invariant: a message with an unreadable part is still read, and the part is told in a remark.
"""

import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from typing import cast

from loam.core.errors import DocumentError
from loam.grounding.canonical import Document, Writer
from loam.grounding.formats.encodings import decoded
from loam.grounding.formats.html import write_html
from loam.grounding.formats.source import UNSEEN, Source, tidy

_SHOWN = ("From", "To", "Cc", "Date")
_PARTS = 1000


def read(source: Source) -> Document:
    """Raises DocumentError for what is no message."""
    try:
        message = BytesParser(policy=compat32).parsebytes(source.data)
    except RecursionError as error:
        raise source.refuse("its parts are nested too deep; leave it out") from error
    if not any(message.get(name) for name in ("From", "To", "Subject", "Date", "Received", "Message-ID")):
        raise source.refuse(
            "it does not begin as a message does (From, To, Subject); give it the ending .txt if it is text"
        )
    writer = Writer()
    lines = [f"{name}: {value}" for name in _SHOWN if (value := _header(message, name))]
    for line in lines:
        writer.paragraph(line)
    leaves = _leaves(message)
    bodies = [part for part in leaves if not _file_name(part)]
    text = [part for part in bodies if part.get_content_type() == "text/plain"]
    for part in text or [part for part in bodies if part.get_content_type() == "text/html"]:
        _write(source, writer, part)
    files = [name for part in leaves if (name := _file_name(part))]
    if files:
        writer.paragraph(f"Attachments: {', '.join(files)}")
    return writer.document(_header(message, "Subject") or source.title)


def _leaves(message: Message) -> list[Message]:
    """The parts that are not made of parts, as far as anyone would look; messages within count as attachments."""
    leaves: list[Message] = []
    waiting = [message]
    while waiting and len(leaves) < _PARTS:
        part = waiting.pop()
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            waiting.extend(reversed(cast("list[Message]", part.get_payload())))
        else:
            leaves.append(part)
    return leaves


def _write(source: Source, writer: Writer, part: Message) -> None:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return
    try:
        found = decoded(source, payload, declared=part.get_content_charset("utf-8"), controls=True)
    except DocumentError as error:
        writer.remark(f"a part of it is passed over ({error})")
        return
    if found.remark:
        writer.remark(found.remark)
    if part.get_content_type() == "text/html":
        write_html(writer, found.text)
        return
    for paragraph in re.split(r"\n[ \t]*\n\s*", found.text):
        if text := paragraph.translate(UNSEEN).strip():
            writer.paragraph(text)


def _file_name(part: Message) -> str:
    """What an attachment is called; "" for what is no attachment."""
    named = part.get_filename() or ("a message" if part.get_content_maintype() == "message" else "")
    return _shown(str(named)) or ("a file" if part.get_content_disposition() == "attachment" else "")


def _header(message: Message, name: str) -> str:
    return _shown(str(message.get(name, "")))


def _shown(value: str) -> str:
    """A header in readable letters; as it stands where it is wrongly coded."""
    try:
        return tidy(str(make_header(decode_header(value))))
    except (HeaderParseError, ValueError, LookupError):
        return tidy(value)
