"""The agent's side of the channel: JSON lines in, JSON lines out.

    {"op": "hello", "packages": [...]}            → {"event": "hello", "facts": {...}}
    {"op": "plan", "stages": [...], "key": hex}   → {"event": "plan", "changes": [...], ...}
    {"op": "begin", "from": "who@where"}          → {"event": "begun"}
    {"op": "stage", "name": "base"}               → step and changed events, {"event": "done"}
    {"op": "finish"}                              → {"event": "finished"}
    {"op": "clock"}                               → {"event": "clock", "time": seconds}
    {"op": "look", "units": [...], ...}           → {"event": "look", ...} (provisioning.health)
    {"op": "across", "credentials": {...}, ...}   → {"event": "across", ...}
    {"op": "bye"}, or the end of input            → the agent ends

Whatever goes wrong comes back as {"event": "error", "text": sentence}.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import Any

from provisioning.agent.facts import gather
from provisioning.agent.host import AgentError, Host
from provisioning.agent.lock import Lock
from provisioning.agent.record import managed
from provisioning.agent.session import Session, explain
from provisioning.agent.work import Change

# Between stages the client waits for other nodes and sends a ping now and then. Silence means
# that its machine is gone, and the lock must not stay for that.
SILENCE_SECONDS = 300


class Wire:
    """Standard input and output as messages. Knows when the other side has hung up."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        self._buffer = bytearray()
        self.cut = False

    def send(self, event: str, **fields: Any) -> None:
        fields["event"] = event
        data = memoryview(json.dumps(fields).encode() + b"\n")
        try:
            while data and not self.cut:
                data = data[os.write(self._sink, data) :]
        except OSError:  # nobody listens any more
            self.cut = True

    def receive(self, seconds: float | None) -> dict[str, Any] | None:
        """The next message; None at the end of input, or after ``seconds`` of silence."""
        while b"\n" not in self._buffer:
            if not select.select([self._source], [], [], seconds)[0]:
                self.cut = True
            else:
                self._take()
            if self.cut:
                return None
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return dict(json.loads(line))

    def poll(self) -> bool:
        """Whether the client has gone, without waiting."""
        while not self.cut and select.select([self._source], [], [], 0)[0]:
            self._take()
        return self.cut

    def _take(self) -> None:
        piece = os.read(self._source, 1 << 20)
        self._buffer += piece
        if not piece:
            self.cut = True


class Agent:
    def __init__(self, wire: Wire, host: Host) -> None:
        self.wire = wire
        self.host = host
        self.session: Session | None = None
        self.lock: Lock | None = None
        self.stamp = (0, 0)
        self.ended = False
        self.tokens: Any = None  # provisioning.agent.look's, when asked for

    def serve(self) -> None:
        try:
            self._serve()
        finally:
            if self.tokens is not None:
                self.tokens.remove()

    def _serve(self) -> None:
        while not self.ended:
            message = self.wire.receive(SILENCE_SECONDS if self.lock else None)
            if message is None or message["op"] == "bye":
                return
            if message["op"] == "ping":
                continue
            try:
                getattr(self, f"on_{message['op']}")(message)
            except AgentError as error:
                self.wire.send("error", text=str(error))
            except OSError as error:
                self.wire.send("error", text=explain(error))
            except Exception as error:  # noqa: BLE001  the other side must hear of it
                import traceback  # noqa: PLC0415  only for our own faults

                where = traceback.format_exc(limit=-3)
                self.wire.send("error", text=f"the agent failed: {error!r}", trace=where)

    def on_hello(self, message: dict[str, Any]) -> None:
        self.wire.send(
            "hello",
            pid=os.getpid(),
            facts=gather(self.host, message["packages"]),
            managed=managed(self.host),
        )

    def on_clock(self, _message: dict[str, Any]) -> None:
        self.wire.send("clock", time=time.time())

    def on_look(self, message: dict[str, Any]) -> None:
        from provisioning.agent import look  # noqa: PLC0415  an apply needs none of it

        seen = look.machine(self.host, message)
        if message["token"]:
            self.tokens = look.Tokens()
            seen["tokens"] = self.tokens.write(message["folders"], message["token"])
        self.wire.send("look", **seen)

    def on_across(self, message: dict[str, Any]) -> None:
        from provisioning.agent import look  # noqa: PLC0415

        self.wire.send("across", **look.across(message))

    def on_plan(self, message: dict[str, Any]) -> None:
        self.session = Session(self.host, message["stages"], message["key"])
        self.stamp = self.session.run.manifest.stamp()
        self.wire.send("plan", **self.session.plan())

    def on_begin(self, message: dict[str, Any]) -> None:
        session = self._planned()
        self.lock = Lock(self.host, message["from"])
        if session.run.manifest.stamp() != self.stamp:
            raise AgentError("another apply changed this node since the plan: apply again")
        session.begin()
        session.run.tell = lambda text: self.wire.send("step", text=text)
        self.wire.send("begun")

    def on_stage(self, message: dict[str, Any]) -> None:
        session = self._planned()
        count = 0

        def changed(change: Change) -> None:
            nonlocal count
            count += 1
            change.stage = message["name"]
            self.wire.send("changed", **change.to_wire())

        session.apply(message["name"], changed, self.wire.poll)
        moving = session.run.moving
        self.wire.send("done", stage=message["name"], changed=count, moving=moving)
        if moving:  # this connection may not live on; whoever confirms comes anew
            from provisioning.agent import network  # noqa: PLC0415

            self._release()
            self.wire.cut = self.ended = True
            network.go(self.host)

    def on_confirm(self, message: dict[str, Any]) -> None:
        from provisioning.agent import network  # noqa: PLC0415  only after a change of it

        self.wire.send("confirm", done=network.confirm(self.host, message["gateway"]))

    def on_pending(self, _message: dict[str, Any]) -> None:
        from provisioning.agent import network  # noqa: PLC0415

        self.wire.send("pending", pending=self.host.exists(network.CHANGE))

    def on_finish(self, _message: dict[str, Any]) -> None:
        self._planned().finish()
        self._release()
        self.wire.send("finished")

    def _release(self) -> None:
        if self.lock:
            self.lock.release()
            self.lock = None

    def _planned(self) -> Session:
        if self.session is None:
            raise AgentError("there is no plan to carry out")
        return self.session


def main(settings: dict[str, Any]) -> None:
    """Entry point of the bootstrap. ``settings``: root ("" for this machine) and image."""
    # A lost connection must not end a half-written package: what runs is finished first.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o022)
    host = Host(settings.get("root", ""), bool(settings.get("image")))
    wire = Wire(0, 1)
    if host.image:
        from provisioning.agent.image import prepare  # noqa: PLC0415  only images need it

        try:
            prepare(host)
        except AgentError as error:
            wire.send("error", text=str(error))
            return
    Agent(wire, host).serve()
