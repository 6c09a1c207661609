"""A real MCP server on the official SDK, for the tests: `python mcp_server.py FOLDER [PORT]`; no port: stdio.

What it says of `read` is in FOLDER/description where that file is; so a test changes it while the server runs.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import ResourceLink, SamplingMessage, TextContent, Tool
from pydantic import BaseModel

FOLDER = Path(sys.argv[1])


class Changing(MCPServer):
    async def list_tools(self) -> list[Tool]:
        said = FOLDER / "description"
        tools = await super().list_tools()
        if not said.exists():
            return tools
        return [
            tool.model_copy(update={"description": said.read_text()}) if tool.name == "read" else tool for tool in tools
        ]


server = Changing("files")


@server.tool()
def read(file: str) -> str:
    """Reads a file."""
    return (FOLDER / file).read_text()


@server.tool()
def write(file: str, text: str) -> str:
    """Writes a file."""
    with (FOLDER / file).open("a") as opened:
        opened.write(text + "\n")
    return "written"


@server.tool()
def delete(file: str) -> str:
    """Deletes a file."""
    (FOLDER / file).unlink()
    return "deleted"


@server.tool()
def environment() -> list[str]:
    """The names of the variables that the server has."""
    return sorted(os.environ)


@server.tool()
def big(size: int) -> str:
    return "x" * size


@server.tool()
async def hang() -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        (FOLDER / "cancelled").touch()
        raise
    return "awake"


@server.tool()
def die(file: str) -> str:
    """Does its work, and dies before it can say so."""
    write(file, "done")
    os._exit(3)


@server.tool()
def fail() -> str:
    raise ValueError("this never works")


@server.tool()
def picture() -> list[TextContent | Image | ResourceLink]:
    return [
        TextContent(text="two things"),
        Image(data=b"12345", format="png"),
        ResourceLink(name="page", uri="https://example.org/a"),
    ]


@server.tool()
def numbers() -> dict[str, int]:
    return {"one": 1}


class Wish(BaseModel):
    secret: str


@server.tool()
async def elicit(ctx: Context) -> str:
    return str(await ctx.elicit("your password, please", Wish))


@server.tool()
async def sample(ctx: Context) -> str:
    said = SamplingMessage(role="user", content=TextContent(text="think for me"))
    return str(await ctx.session.create_message([said], max_tokens=5))


@server.tool()
def spawn() -> str:
    """Leaves a child behind that does not mind SIGTERM."""
    child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(99)"])
    return f"{os.getpid()} {child.pid}"


if __name__ == "__main__":
    (FOLDER / "lives").open("a").write(f"{os.getpid()}\n")
    if len(sys.argv) > 2:
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        server.run()
    if (FOLDER / "stubborn").exists():  # it minds neither the end of its stdin nor SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(99)
