"""A process that speaks the engine's protocol and repeats a word: for tests of what stands around an engine."""

import socket
import sys
import threading
import time
from pathlib import Path

from loam.core.calls import Delta, Usage
from loam.engine.protocol import (
    HEAD,
    About,
    Cancel,
    Ended,
    Finish,
    Order,
    Proceed,
    Ready,
    Reply,
    Request,
    Sized,
    Spoken,
    Unready,
    frame,
    to_engine,
)  # fmt: skip


class Parrot:
    def __init__(self) -> None:
        self.connection = socket.socket(fileno=int(sys.argv[1]))
        self.incoming = self.connection.makefile("rb")
        self.cancelled: set[str] = set()

    def read(self):
        head = self.incoming.read(HEAD.size)
        return to_engine.decode(self.incoming.read(HEAD.unpack(head)[0])) if len(head) == HEAD.size else None

    def say(self, *messages) -> None:
        self.connection.sendall(b"".join(map(frame, messages)))

    def speak(self, request: Request) -> None:
        said = request.max_tokens or 5
        for _ in range(said):
            if request.id in self.cancelled:
                return
            self.say(Spoken(request.id, [Delta(text="word ")]))
            time.sleep(0.002)
        last = [Delta(finish="stop"), Delta(usage=Usage(input=1, output=said))]
        self.say(Spoken(request.id, last), Ended(request.id))

    def open(self, order: Order) -> bool:
        if not (Path(order.path) / "config.json").exists():
            self.say(Unready(f"{order.path} is no checkpoint"))
            return False
        size = Path(order.path) / "size"  # in bytes, where a test says so
        size = int(size.read_text()) if size.exists() else 1000
        self.say(Sized(size, 1 << 40))
        if not isinstance(self.read(), Proceed):
            return False
        about = About(
            name=order.name, path=order.path, family="parrot", parameters=1, bytes=size, context=100, vocabulary=10,
            weights="fp32", device="cpu", template=True, tools="",
        )  # fmt: skip
        self.say(Ready(about))
        return True

    def run(self) -> None:
        running: list[threading.Thread] = []
        while not isinstance(message := self.read(), Finish | None):
            if isinstance(message, Request):
                running.append(threading.Thread(target=self.speak, args=(message,)))
                running[-1].start()
            elif isinstance(message, Cancel):
                self.cancelled.add(message.id)
            else:
                self.say(Reply(message.id, {"tokens": 3}))
        for thread in running:
            thread.join()


parrot = Parrot()
if parrot.open(parrot.read()):
    parrot.run()
