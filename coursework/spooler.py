"""The spooler of one course: hands out, takes in, gives back. ``python -I -m coursework.spooler
NAME`` as grader-NAME, with its socket from systemd (a port below 1024 on the login node).

A connection is one question: a munge credential in one line, made for this grader alone. munge
says who asks; nothing that the asker writes does. Answers are credentials for the asker alone, so
neither the list nor feedback is anybody else's, and nobody on the network can forge a receipt.
The moment of a hand-in is this machine's clock when the last byte had come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pwd
import shutil
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster.load import load_public
from cluster.text import clean
from coursework import ledger
from coursework.door import Door
from coursework.layout import ETC, Layout, find
from coursework.receive import Body
from coursework.session import records, wire
from coursework.session.records import Receipt, Reply, Request
from coursework.session.wire import digest
from coursework.store import RefusedError, Store, files_of
from spawners.munge import Munge, MungeError, Opened

CLUSTER = Path(ETC).parent / "cluster.json"
AT_ONCE = 64  # connections of whom it is known who they are; of others see coursework.door
EACH = 4  # of one student
GREETING_SECONDS = 3  # for the first line, which a client has ready
ANSWER_SECONDS = 100  # for all of it
LONGEST_REQUEST = 16 * 1024  # bytes of a credential
FEEDBACK_LIMIT = 50_000_000  # bytes of one submission's feedback
AFTERWARDS = ("list", "feedback", "check")  # what an archived course still answers
SYSTEMD_SOCKET = 3

log = logging.getLogger("spooler")


class CutError(Exception):
    """A body of which not all can be sent: nothing can be said on this connection any more."""


class Spooler:
    """Answers for one course. ``munge`` is a parameter for tests with a daemon of their own."""

    def __init__(self, layout: Layout, munge: Munge | None = None) -> None:
        self.layout = layout
        self.course = layout.course
        self.store = Store(layout)
        self.store.prepare()
        self._munge = munge or Munge()
        self._nonces = ledger.Nonces(layout.ledger, time.time())
        self._key = ledger.key(layout.ledger)
        self._door = Door()
        self._open = 0
        self._by_uid: Counter[int] = Counter()
        self._one_by_one: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def serve(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(
            self.connection, sock=listening, limit=LONGEST_REQUEST, backlog=256
        )
        async with server:
            await server.serve_forever()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question and its answer; whatever goes wrong ends this one alone."""
        address = str((writer.get_extra_info("peername") or ("",))[0])
        self._door.enter(writer.transport, address)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._question(reader, writer)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, CutError) as error:
            log.info("a connection ended early: %s %s", type(error).__name__, error)
        except Exception:  # the last place that can tell anybody; others must go on
            log.exception("a question could not be answered")
        finally:
            self._door.leave(writer.transport)
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(5):
                    await writer.wait_closed()

    async def _question(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                line = await reader.readuntil(b"\n")
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            await _tell(writer, "this is not a question to a course")
            return
        try:
            opened = await self._opened(line)
            request = records.read_request(opened.payload)
        except (MungeError, ValueError) as error:
            log.warning("refused: %s", error)
            await _tell(writer, f"the credential is refused: {error}")
            return
        self._door.leave(writer.transport)
        self._open += 1
        self._by_uid[opened.uid] += 1
        try:
            if self._open > AT_ONCE:
                await _tell(writer, "too many hand in at this moment: try again in a minute")
            else:
                await self._answer(Asker(self, opened, request, reader, writer))
        finally:
            self._open -= 1
            self._by_uid[opened.uid] -= 1
            if not self._by_uid[opened.uid]:
                del self._by_uid[opened.uid]

    async def _opened(self, line: bytes) -> Opened:
        """MungeError when it was not made for this course's grader, or too long ago."""
        opened = await self._munge.open(line.decode("ascii", errors="replace").strip())
        if opened.restricted_to != os.getuid():
            raise MungeError("others could open it, too")
        if abs(time.time() - opened.made) > ledger.LONGEST_LIFE:
            raise MungeError("it is too old: look at the clocks")
        return opened

    async def _answer(self, asker: Asker) -> None:
        request = asker.request
        try:
            student = self._admitted(asker.opened.uid, request)
            await getattr(self, f"_{request.op}")(asker, student)
        except RefusedError as error:
            log.info("uid %d, %s: %s", asker.opened.uid, request.op, error)
            await asker.reply(error=str(error))
        except ConnectionError:
            raise
        except (OSError, ValueError) as error:
            log.exception("%s of uid %d", request.op, asker.opened.uid)
            await asker.reply(
                error=f"the course {self.course.name} has a fault ({clean(str(error), 80)}): "
                "tell your instructor"
            )

    def _admitted(self, uid: int, request: Request) -> str:
        """The asker's account, once for each request. RefusedError."""
        if self._by_uid[uid] > EACH:
            raise RefusedError("you are asking this course too much at once: try again")
        student = self._student(uid, request)
        # used up before anything happens: a copy of the credential opens nothing
        if not self._nonces.use(request.nonce, uid, time.time()):
            raise RefusedError("this request was used before")
        return student

    def _student(self, uid: int, request: Request) -> str:
        """The account's name. Instructors may do all that students may, to see what they see."""
        if request.course != self.course.name:
            raise RefusedError(f"this is the course {self.course.name}, not {request.course[:40]}")
        if self.course.state != "open" and request.op not in AFTERWARDS:
            raise RefusedError(
                f"the course {self.course.name} is archived: nothing is handed out or in any more"
            )
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = ""
        if name not in self.course.people:
            raise RefusedError(f"you are not in the course {self.course.name}")
        return name

    # --- the operations ---------------------------------------------------------------------

    async def _list(self, asker: Asker, student: str) -> None:
        dates = self.store.dates()
        given, taken = [], []
        for name in self.store.assignments():
            folder = self.store.released(name)
            books = [path.stem for path in sorted(folder.glob("*.ipynb"))]
            given.append({"name": name, "due": dates.of(name, student), "notebooks": books})
        own = self.layout.inbound / student
        for folder in sorted(own.iterdir()) if own.is_dir() else []:
            for submitted in self.store.submissions(student, folder.name):
                taken.append(self._submission(student, folder.name, submitted))
        archived = self.course.state != "open"
        listed = {"assignments": given, "submissions": taken, "archived": archived}
        await asker.send([("list.json", json.dumps(listed).encode())])

    def _submission(self, student: str, assignment: str, submitted: str) -> dict[str, Any]:
        receipt = self.store.receipt(student, assignment, submitted)
        back = self.store.feedback(student, assignment, submitted)
        books = [path for path in receipt.digests if path.endswith(".ipynb") and "/" not in path]
        pages = dict(files_of(back)) if back else {}
        return {
            "assignment": assignment,
            "submitted": submitted,
            "late_seconds": receipt.late_seconds,
            "number": receipt.number,
            "notebooks": [path.removesuffix(".ipynb") for path in books],
            "feedback": {path: digest(file) for path, file in pages.items()},
        }

    async def _fetch(self, asker: Asker, student: str) -> None:
        folder = self.store.released(asker.request.assignment)
        await asker.send(list(files_of(folder)))
        if student in self.course.students:
            self.store.note_fetched(asker.request.assignment, student)

    async def _feedback(self, asker: Asker, student: str) -> None:
        request = asker.request
        folder = self.store.feedback(student, request.assignment, request.submitted)
        if folder is None:
            raise RefusedError("there is no feedback for this submission yet")
        files = list(files_of(folder))
        if sum(file.stat().st_size for _path, file in files) > FEEDBACK_LIMIT:
            raise RefusedError("this feedback is too large: ask your instructor for it")
        await asker.send(files)

    async def _check(self, asker: Asker, student: str) -> None:
        request = asker.request
        try:
            receipt = self.store.receipt(student, request.assignment, request.submitted)
        except FileNotFoundError:
            raise RefusedError("nothing of yours came in at that moment") from None
        await asker.reply(data={"seal": receipt.seal})

    async def _submit(self, asker: Asker, student: str) -> None:
        request = asker.request
        self.store.released(request.assignment)
        most = self.course.max_submission_mb * 1_000_000
        if request.files > self.course.max_files or request.files < 1:
            raise RefusedError(
                f"{request.files} files: a submission has from 1 to {self.course.max_files}"
            )
        if request.size > most + request.files * 1024:
            raise RefusedError(
                f"{request.size // 1_000_000} MB: a submission has at most "
                f"{self.course.max_submission_mb} MB"
            )
        self.store.may_submit(student, request.assignment, request.size)
        staged = self.store.staging(request.nonce)
        try:
            await asker.reply()
            body = Body(asker.reader, request.size, request.files)
            await body.into(staged / "files", request.sha256)
            async with self._one_by_one[student]:  # or two would be the n-th
                receipt = self._receipt(asker, student, body)
                await _to_its_end(self.store.accept, staged, receipt)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        log.info("%s handed in %s, %d bytes", student, request.assignment, request.size)
        await asker.reply(data={"receipt": json.loads(receipt.text())})

    def _receipt(self, asker: Asker, student: str, body: Body) -> Receipt:
        request = asker.request
        before = self.store.submissions(student, request.assignment)
        submitted = records.stamp(records.now())
        if before and submitted <= before[-1]:
            raise RefusedError("the server's clock went back: try again in a minute")
        due = self.store.dates().of(request.assignment, student)
        receipt = Receipt(
            course=self.course.name,
            assignment=request.assignment,
            student=student,
            uid=asker.opened.uid,
            submitted=submitted,
            sha256=request.sha256,
            size=request.size,
            digests=body.digests,
            number=len(before) + 1,
            due=due,
            late_seconds=records.late_seconds(submitted, due),
        )
        return ledger.seal(receipt, self._key)


class Asker:
    """Who asks what, and the way back to them."""

    def __init__(
        self,
        spooler: Spooler,
        opened: Opened,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.opened, self.request, self.reader = opened, request, reader
        self._munge, self._writer = spooler._munge, writer

    async def reply(self, **values: Any) -> None:
        text = Reply(nonce=self.request.nonce, **values).text()
        credential = await self._munge.close(text, reader=self.opened.uid)
        self._writer.write(credential.encode() + b"\n")
        await self._writer.drain()

    async def send(self, files: Sequence[tuple[str, bytes | Path]]) -> None:
        """A body, with its size and digest told before it. Files are read twice, piece by piece:
        an assignment may be larger than the memory that a spooler has. CutError."""
        sha256, size = await asyncio.to_thread(wire.measure, files)
        await self.reply(size=size, sha256=sha256)
        try:
            for part in wire.parts(files):
                self._writer.write(part)
                await self._writer.drain()
        except (OSError, ValueError) as error:
            self._writer.transport.abort()
            raise CutError(str(error)) from None


async def _to_its_end(work: Callable[..., None], *given: Any) -> None:
    """In a thread, which is waited for even when its time is over: what it works on is its own."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *given))
    try:
        await asyncio.shield(running)
    finally:
        await asyncio.wait([running])


async def _tell(writer: asyncio.StreamWriter, text: str) -> None:
    """To whom cannot be told by a credential. Nobody believes this but a person."""
    writer.write(f"ERROR {clean(text, 300)}\n".encode())
    await writer.drain()


def main(argv: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if len(argv) != 1:
        log.error("usage: python -m coursework.spooler COURSE")
        return 2
    os.umask(0o077)
    spooler = Spooler(find(load_public(CLUSTER), argv[0]))
    if os.environ.get("LISTEN_FDS") != "1":
        log.error("systemd gave no socket: start practicum-spool-%s.socket", argv[0])
        return 2
    with socket.socket(fileno=SYSTEMD_SOCKET) as listening:
        listening.setblocking(False)
        asyncio.run(spooler.serve(listening))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
