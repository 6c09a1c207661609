"""Which checkpoints there are, which are in memory, and which has to go when another is wanted.

Knows names, folders and processes, no torch. Invariants: a checkpoint is opened once however many ask for it at a time;
one that answers, or that somebody is about to ask, is never put away for another; nothing is put away for one that
would not fit all the same.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

from msgspec import Struct

from loam.core.errors import EngineError, Failure, ModelFailure, fail, refuse
from loam.engine.client import EngineProcess
from loam.engine.protocol import About, Order, Sized
from loam.engine.settings import LocalSettings

CONFIG = "config.json"
GGUF = ".gguf"
_BUSY_SECONDS = 5.0


class State(Struct, frozen=True, kw_only=True):
    """A checkpoint as `loam models list` shows it. `problem` is why it could not be loaded, the last time.

    `guessed` tokens were tried ahead of their time, by copying or a draft, and `accepted` of them came true.
    """

    name: str
    path: str
    state: Literal["on disk", "loading", "loaded"]
    bytes_on_disk: int
    running: int = 0
    guessed: int = 0
    accepted: int = 0
    problem: str = ""
    about: About | None = None


class Fleet:
    """The checkpoints of one provider called `name`. Raises ModelFailure for whatever keeps one from answering.

    `started` makes the process of an order; tests give another.
    """

    def __init__(
        self, name: str, settings: LocalSettings, *, started: Callable[[Order], EngineProcess] = EngineProcess
    ) -> None:
        self._name = name
        self._settings = settings
        self._make = started
        self._more: dict[str, str] = {}  # paths that were named while the gateway ran
        self._loaded: dict[str, EngineProcess] = {}  # the one asked longest ago first
        self._loading: dict[str, asyncio.Task[EngineProcess]] = {}
        self._problems: dict[str, str] = {}
        self._wanted: Counter[str] = Counter()  # by model, who holds its process
        self._turn = asyncio.Lock()  # one is opened at a time, so that each knows what the others take

    @property
    def paths(self) -> dict[str, Path]:
        """Every checkpoint by its name: those of the folder, then those that the settings or `load` name."""
        folder = self._settings.folder
        found: Mapping[str, Path] = in_folder(Path(folder).expanduser()) if folder else {}
        given = {**self._settings.paths, **self._more}
        return {**found, **{name: Path(path).expanduser() for name, path in given.items()}}

    def find(self, name: str) -> tuple[str, Path, str]:
        """A checkpoint's name and path, and the adapter that a call for MODEL:ADAPTER means."""
        paths = self.paths
        for model, adapter in ((name, ""), (name.rpartition(":")[0], name.rpartition(":")[2])):
            if model in paths:
                return model, paths[model], adapter
        there = ", ".join(sorted(paths)) or f"none; put a checkpoint's folder into {self._settings.folder or 'models'}"
        raise fail(
            "not_found", self._name, f"there is no checkpoint called {name!r} here; there are: {there}", sent=False
        )

    @asynccontextmanager
    async def using(self, name: str) -> AsyncGenerator[EngineProcess, None]:
        """The process that answers for a checkpoint, which is not put away for another one meanwhile."""
        model = self.find(name)[0]
        self._wanted[model] += 1
        try:
            process = await self.engine(name)
            if not process.alive:  # it was put away, or died, in the moment between
                process = await self.engine(name)
            with process.held():
                yield process
        finally:
            self._wanted[model] -= 1

    async def engine(self, name: str) -> EngineProcess:
        """The process that answers for a checkpoint; it is started where it does not run yet. See `using`."""
        model, path, _ = self.find(name)
        running = self._loaded.get(model)
        if running is not None and running.alive:
            self._loaded[model] = self._loaded.pop(model)  # the youngest again
            return running
        task = self._loading.get(model)
        if task is None:
            task = self._loading[model] = asyncio.ensure_future(self._load(model, path))
            task.add_done_callback(lambda done: self._opened(model, done))
        return await asyncio.shield(task)

    async def open_first(self) -> None:
        """Opens what is to be there from the start. Raises EngineError: a gateway that lacks it should not start."""
        for name in self._settings.at_start:
            try:
                await self.engine(name)
            except ModelFailure as error:
                raise EngineError(str(error)) from error

    async def load(self, name: str, path: str = "") -> EngineProcess:
        """Opens a checkpoint, at a path that nobody has named before where one is given."""
        if path:
            place = _place(path)
            if not is_checkpoint(place):
                raise refuse("not_found", f"{path} is no checkpoint: neither a folder with {CONFIG} nor a {GGUF} file")
            name = name or (place.stem if place.is_file() else place.name)
            known = self.paths.get(name)
            if known is not None and known.resolve() != place:
                raise refuse("conflict", f"{name!r} is the checkpoint at {known}; give this one another name")
            self._more[name] = str(place)
        return await self.engine(name)

    def _opened(self, model: str, task: "asyncio.Task[EngineProcess]") -> None:
        self._loading.pop(model, None)
        if not task.cancelled():
            task.exception()  # seen, also where all who asked have left

    async def _load(self, name: str, path: Path) -> EngineProcess:
        async with self._turn:
            return await self._started(name, path)

    async def _started(self, name: str, path: Path) -> EngineProcess:
        for gone in [gone for gone, process in self._loaded.items() if not process.alive]:
            await self._loaded.pop(gone).close(grace=0)
        if len(self._loaded) >= self._settings.loaded and self._idle() is None:
            raise self._busy()
        settings = self._settings
        taken = 0

        async def allow(sized: Sized) -> int | None:
            nonlocal taken
            await self._make_room(path, sized, taken)
            left = None if settings.memory is None else settings.memory - self._bytes() - taken
            taken += sized.bytes  # a draft asks next
            return left

        try:
            process = self._make(self._order(name, path))
            await process.start(allow)
        except EngineError as error:
            self._problems[name] = str(error)
            raise fail("unavailable", self._name, str(error), sent=False) from error
        self._problems.pop(name, None)
        self._loaded[name] = process
        return process

    def _order(self, name: str, path: Path) -> Order:
        settings = self._settings
        return Order(
            name=name,
            path=str(path),
            weights=settings.weights,
            device=settings.device,
            threads=settings.threads,
            cache=settings.cache,
            batch=settings.batch,
            queue=settings.queue,
            context=settings.context,
            draft=self._draft(name),
            adapters={one: str(Path(at).expanduser()) for one, at in settings.adapters.get(name, {}).items()},
            exact=settings.exact,
        )

    def _draft(self, name: str) -> str:
        """Where the checkpoint lies that guesses for another one, empty for none. Raises EngineError."""
        given = self._settings.drafts.get(name, "")
        if not given:
            return ""
        place, paths = Path(given).expanduser(), self.paths
        if not is_checkpoint(place):
            if given not in paths:
                raise EngineError(
                    f"drafts of [providers.{self._name}.engine] has {given!r} guess for {name}, which is neither a "
                    f"path to a checkpoint nor the name of one; there are: {', '.join(sorted(paths))}"
                )
            place = paths[given]
        return str(place)

    async def _make_room(self, path: Path, sized: Sized, taken: int) -> None:
        """Puts idle checkpoints away until `sized` has room beside the rest and the `taken` bytes of its own kind.

        Raises EngineError where it never will have any, and ModelFailure where it has none now.
        """
        limit, free = self._settings.memory, sized.free
        if limit is not None and taken + sized.bytes > limit:
            raise EngineError(
                f"{path} needs {_said(taken + sized.bytes)} for its weights, and memory = {limit} of "
                f"[providers.{self._name}.engine] allows {_said(limit)}; raise it, take smaller weights "
                '(weights = "int8" or "int4"), or a smaller model'
            )
        if sized.bytes > free + self._bytes():
            return  # not even alone: the engine says so in its words, and who is in memory stays
        while self._loaded and (
            len(self._loaded) >= self._settings.loaded
            or sized.bytes > free
            or (limit is not None and self._bytes() + taken + sized.bytes > limit)
        ):
            idle = self._idle()
            if idle is None:
                raise self._busy()
            about = self._loaded[idle].about
            free += about.bytes if about is not None else 0
            await self.unload(idle)

    def _idle(self) -> str | None:
        """The checkpoint that nobody uses for the longest time."""
        found = (name for name, process in self._loaded.items() if not (process.running or self._wanted[name]))
        return next(found, None)

    def _busy(self) -> ModelFailure:
        message = f"all {len(self._loaded)} checkpoints in memory are answering; come back in a moment"
        return ModelFailure(
            Failure(kind="rate_limit", message=message, provider=self._name, retry_after=_BUSY_SECONDS, sent=False)
        )

    def _bytes(self) -> int:
        return sum(process.about.bytes for process in self._loaded.values() if process.about)

    async def unload(self, name: str) -> None:
        """Puts a checkpoint away; answers that run get `grace` seconds."""
        model = self.find(name)[0]
        if model in self._loading:
            await asyncio.wait([self._loading[model]])
        process = self._loaded.pop(model, None)
        if process is not None:
            await process.close(grace=self._settings.grace)

    def states(self) -> list[State]:
        return [self.state(name, path) for name, path in sorted(self.paths.items())]

    def state(self, name: str, path: Path) -> State:
        process = self._loaded.get(name)
        alive = process is not None and process.alive
        return State(
            name=name,
            path=str(path),
            state="loaded" if alive else "loading" if name in self._loading else "on disk",
            bytes_on_disk=bytes_on_disk(path),
            running=process.running if process is not None and alive else 0,
            guessed=process.guessed if process is not None and alive else 0,
            accepted=process.accepted if process is not None and alive else 0,
            problem=self._problems.get(name, ""),
            about=process.about if process is not None and alive else None,
        )

    async def close(self) -> None:
        """Ends every process; the gateway has waited for its calls before."""
        for task in list(self._loading.values()):
            task.cancel()
            with suppress(asyncio.CancelledError, ModelFailure):
                await task
        await asyncio.gather(*(process.close(grace=self._settings.grace) for process in self._loaded.values()))
        self._loaded.clear()


def _place(path: str) -> Path:
    return Path(path).expanduser().resolve()


def is_checkpoint(path: Path) -> bool:
    """Whether something looks like a checkpoint: a folder with config.json, or a .gguf file."""
    return (path / CONFIG).is_file() if path.is_dir() else path.suffix == GGUF and path.is_file()


def in_folder(folder: Path) -> Mapping[str, Path]:
    """The checkpoints in a folder, by name; those of the hub's kind, OWNER/NAME, a folder further down."""
    found: dict[str, Path] = {}
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if is_checkpoint(path):
                found[path.stem if path.is_file() else path.name] = path
            elif path.is_dir():
                below = [inner for inner in sorted(path.iterdir()) if is_checkpoint(inner)]
                found |= {f"{path.name}/{inner.stem if inner.is_file() else inner.name}": inner for inner in below}
    return found


def bytes_on_disk(path: Path) -> int:
    """Bytes of a checkpoint's weights."""
    files = [path] if path.is_file() else path.glob("*.safetensors")
    total = 0
    with suppress(OSError):
        total = sum(file.stat().st_size for file in files)
    return total


def _said(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
