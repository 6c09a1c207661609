"""The engine's own process: reads frames, writes frames, and drives one engine in between.

Three threads: one reads what the gateway sends, one turns text into asks (templates and tokenizers take their time),
and the main one steps the engine and nothing else. Invariants: a frame that says `cancel` is heard at the engine's next
step; when the gateway is gone, however it went, so is this process.
"""

import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from loam.core.calls import Delta
from loam.core.errors import EngineError, Failure, ModelFailure
from loam.engine.asks import Ask, Said
from loam.engine.memory import Limit
from loam.engine.opening import Opened, open_model
from loam.engine.protocol import (
    HEAD,
    Cancel,
    Ended,
    Finish,
    Order,
    Proceed,
    Question,
    Ready,
    Reply,
    Request,
    Sized,
    Spoken,
    ToGateway,
    Unready,
    frame,
    to_engine,
)
from loam.engine.questions import QUESTIONS, STEPS
from loam.engine.text import Answering

_log = logging.getLogger("loam.engine")
_REMEMBERED = 4096
Open = Callable[[Order, Limit], Opened]


class Line:
    """The way to the gateway. Frames are whole whichever thread writes them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._incoming = connection.makefile("rb")
        self._lock = threading.Lock()

    def read(self) -> Any:
        """The next message; None when the gateway is gone."""
        try:
            head = self._incoming.read(HEAD.size)
            body = self._incoming.read(HEAD.unpack(head)[0]) if len(head) == HEAD.size else b""
        except OSError:
            return None
        return to_engine.decode(body) if body else None

    def write(self, *messages: ToGateway) -> None:
        data = b"".join(map(frame, messages))
        try:
            with self._lock:
                self._connection.sendall(data)
        except OSError:
            leave()


def leave() -> None:
    """Ends this process from any thread: there is nobody left to answer, and nothing here to put away."""
    os._exit(0)


class Inbox(threading.Thread):
    """Reads from the first moment on, so that even a process that loads for minutes notices that nobody waits."""

    def __init__(self, line: Line) -> None:
        super().__init__(name="reading", daemon=True)
        self._line = line
        self.texts: queue.SimpleQueue[Request | Question | Finish] = queue.SimpleQueue()
        """What takes time to read."""
        self.ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        """What the engine can begin with at once."""
        self.proceeding: queue.SimpleQueue[Proceed] = queue.SimpleQueue()
        """How much memory may be taken, each time that it was asked."""
        self.cancelled: set[str] = set()

    def run(self) -> None:
        while (message := self._line.read()) is not None:
            if isinstance(message, Cancel):
                if len(self.cancelled) >= _REMEMBERED:
                    self.cancelled.clear()  # of answers that had ended when their cancellation came
                self.cancelled.add(message.id)
                self.ready.put(message)
            elif isinstance(message, Proceed):
                self.proceeding.put(message)
            elif isinstance(message, Request | Question | Finish):
                self.texts.put(message)
        leave()


class Worker:
    """Drives an opened checkpoint by what comes in."""

    def __init__(self, opened: Opened, line: Line, inbox: Inbox) -> None:
        self._opened = opened
        self._engine = opened.engine
        self._line = line
        self._inbox = inbox
        self._answerings: dict[str, Answering] = {}
        self._finishing = False
        self._guesses = (0, 0)  # of the engine, as it was told

    def run(self) -> None:
        """Until the gateway says to finish and all is answered."""
        threading.Thread(target=self._prepare, daemon=True, name="preparing").start()
        while not (self._finishing and self._engine.idle and self._inbox.ready.empty()):
            self._take()
            if not self._engine.idle:
                self._tell(self._engine.step())

    def _prepare(self) -> None:
        while True:
            message = self._inbox.texts.get()
            if isinstance(message, Finish) or (isinstance(message, Question) and message.name in STEPS):
                self._inbox.ready.put(message)
            elif isinstance(message, Question):
                self._line.write(_replied(self._opened, message, QUESTIONS))
            elif message.id not in self._inbox.cancelled:
                try:
                    self._inbox.ready.put(Answering(self._opened.voice, message))
                except (ModelFailure, EngineError, ArithmeticError, LookupError, TypeError, ValueError) as error:
                    self._line.write(Ended(message.id, _failure(error)))

    def _take(self) -> None:
        """All that came in since; waits for something where there is nothing else to do."""
        wait = self._engine.idle and not self._finishing
        while True:
            try:
                message = self._inbox.ready.get(block=wait)
            except queue.Empty:
                return
            wait = False
            match message:
                case Answering():
                    self._begin(message)
                case Cancel():
                    self._cancel(message.id)
                case Question():
                    self._line.write(_replied(self._opened, message, STEPS))
                case _:
                    self._finishing = True

    def _begin(self, answering: Answering) -> None:
        if answering.id in self._inbox.cancelled:
            self._inbox.cancelled.discard(answering.id)
            return
        begun: list[Ask] = []
        try:
            for ask in answering.asks:
                self._engine.add(ask)
                begun.append(ask)
        except ModelFailure as error:
            for ask in begun:
                self._engine.cancel(ask.id)
            self._line.write(Ended(answering.id, error.failure))
        else:
            self._answerings[answering.id] = answering

    def _cancel(self, request: str) -> None:
        answering = self._answerings.pop(request, None)
        if answering is not None:
            self._inbox.cancelled.discard(request)
            for ask in answering.asks:
                self._engine.cancel(ask.id)

    def _tell(self, said: list[Said]) -> None:
        """Hands each answer what the step wrote of it, and sends all that comes of it in one go."""
        told: dict[str, list[Delta]] = {}
        for event in said:
            request = event.ask.rpartition("/")[0]
            answering = self._answerings.get(request)
            if answering is not None:
                told.setdefault(request, []).extend(answering.hear(event))
        messages: list[ToGateway] = []
        for request, deltas in told.items():
            answering = self._answerings[request]
            for ask in answering.cancelled:
                self._engine.cancel(ask)
            answering.cancelled.clear()
            if deltas:
                messages.append(Spoken(request, deltas))
            if answering.done:
                del self._answerings[request]
                (guessed, accepted), (before, true) = self._engine.guesses, self._guesses
                self._guesses = guessed, accepted
                messages.append(Ended(request, answering.failure, guessed - before, accepted - true))
        if messages:
            self._line.write(*messages)


def _replied(opened: Opened, question: Question, known: Mapping[str, Callable[[Opened, Any], Any]]) -> Reply:
    ask = known.get(question.name)
    if ask is None:
        return Reply(question.id, None, Failure(kind="unsupported", message=f"nobody knows of {question.name!r} here"))
    try:
        return Reply(question.id, ask(opened, question.body))
    except (ModelFailure, EngineError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        return Reply(question.id, None, _failure(error))


def _failure(error: Exception) -> Failure:
    if isinstance(error, ModelFailure):
        return error.failure
    if isinstance(error, EngineError):
        return Failure(kind="unsupported", message=str(error))
    if isinstance(error, msgspec.ValidationError):
        return Failure(kind="bad_request", message=str(error))
    _log.exception("a request could not be read", exc_info=error)
    return Failure(kind="internal", message=f"the engine failed over this request ({type(error).__name__}: {error})")


def serve(connection: socket.socket, opens: Open = open_model) -> None:
    """Opens what the first frame orders, says that it is ready or why not, then answers until it is told to finish."""
    line = Line(connection)
    order = line.read()
    if not isinstance(order, Order):
        return
    inbox = Inbox(line)
    inbox.start()

    def limit(need: int, free: int) -> int | None:
        line.write(Sized(need, free))
        return inbox.proceeding.get().memory

    try:
        opened = opens(order, limit)
    except (EngineError, ModelFailure) as error:
        line.write(Unready(str(error)))
        return
    line.write(Ready(opened.about))
    try:
        Worker(opened, line, inbox).run()
    finally:
        opened.voice.tokenizer.close()


def main() -> None:
    """`python -m loam.engine.worker FD`: serves on an open socket that it was handed."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the program in front, which tells us what becomes of it
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection)
    leave()


if __name__ == "__main__":
    main()
