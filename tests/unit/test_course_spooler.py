"""A spooler and its client with a real munge: handed out, handed in, refused. Needs root: munge
says who asks, and only root can be several people."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from spawner_hub import start_munged

from cluster.courses import Course
from coursework import ledger, store
from coursework.door import OF_ONE_ADDRESS, Door
from coursework.layout import Layout
from coursework.session import gather, records, wire
from coursework.session.client import Client, Place
from coursework.spooler import Spooler
from coursework.store import Store
from spawners.munge import Munge

pytestmark = pytest.mark.skipif(
    not (shutil.which("munged") or Path("/usr/sbin/munged").exists()), reason="needs munge"
)


class Named(wire.Munge):
    """The client's commands with a socket of the test's own."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def _run(self, argv: list[str], text: str) -> str:
        return super()._run([*argv, "--socket", self._where], text)


@pytest.fixture(scope="module")
def munge() -> Iterator[str]:
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="munge-"))
    folder.chmod(0o755)
    daemon = start_munged(folder)
    yield str(folder / "socket")
    daemon.terminate()
    daemon.wait(20)
    shutil.rmtree(folder)


@pytest.fixture
def there(tmp_path: Path, munge: str) -> Iterator[SimpleNamespace]:
    """A running spooler whose only student is whoever runs the tests."""
    me = pwd.getpwuid(os.getuid()).pw_name
    course = Course.model_construct(
        name="hpc", uid=50000, title="", instructors=("ines",), students=(me,), state="open",
        slots=2, partition="", kernel="", max_submission_mb=1, max_files=5,
    )  # fmt: skip
    layout = Layout(course, tmp_path / "course", tmp_path / "env", "127.0.0.1")
    for folder in (layout.ledger, layout.outbound / "ps1"):
        folder.mkdir(parents=True)
    (layout.outbound / "ps1" / "ps1.ipynb").write_text("{}")
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    loop = asyncio.new_event_loop()
    spooler = Spooler(layout, Munge(socket=munge))
    task = loop.create_task(spooler.serve(listening))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])))
    thread.start()
    place = Place("hpc", "", "127.0.0.1", listening.getsockname()[1], os.getuid(), "course-hpc",
                  1_000_000, 5)  # fmt: skip
    home = tmp_path / "home"
    home.mkdir()
    yield SimpleNamespace(
        client=Client(place, home, Named(munge), seconds=20), layout=layout, store=Store(layout),
        me=me, course=course, home=home, spooler=spooler,
    )  # fmt: skip
    loop.call_soon_threadsafe(task.cancel)
    thread.join(20)
    loop.close()


def test_fetch_submit_and_check(there) -> None:
    folder = there.client.fetch("ps1")
    assert [path.name for path in folder.iterdir()] == ["ps1.ipynb"]
    (folder / "data").mkdir()
    (folder / "data" / "x.csv").write_text("1,2\n")
    done = there.client.submit("ps1")
    assert set(done.receipt.digests) == {"ps1.ipynb", "data/x.csv"}
    assert there.client.check(done.receipt)
    assert ledger.genuine(done.receipt, ledger.key(there.layout.ledger))
    again = there.client.submit("ps1")
    assert (done.receipt.number, again.receipt.number) == (1, 2)
    assert again.receipt.submitted > done.receipt.submitted
    listed = there.client.list()
    assert [one["submitted"] for one in listed["submissions"]] == [
        done.receipt.submitted, again.receipt.submitted,
    ]  # fmt: skip
    assert there.store.changed(done.receipt) == []
    kept = there.layout.submission(there.me, "ps1", done.receipt.submitted) / "files"
    (kept / "ps1.ipynb").write_text("[]")
    assert there.store.changed(done.receipt) == ["ps1.ipynb"]
    assert not list(there.layout.incoming.iterdir())


def test_limits_are_told_by_the_client_before_it_reads(there) -> None:
    folder = there.client.fetch("ps1")
    with (folder / "big").open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(wire.WireError, match="more than 1 MB"):
        there.client.submit("ps1")
    (folder / "big").unlink()
    for number in range(6):
        (folder / f"f{number}").touch()
    with pytest.raises(wire.WireError, match="more than 5 files"):
        there.client.submit("ps1")


def test_links_and_pipes_are_left_out_and_told(there) -> None:
    folder = there.client.fetch("ps1")
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    done = there.client.submit("ps1")
    assert set(done.receipt.digests) == {"ps1.ipynb"}
    assert done.left_out == [
        "link is a link and was left out", "pipe is no regular file and was left out",
    ]  # fmt: skip


def test_a_share_that_is_full_is_told(there, monkeypatch) -> None:
    folder = there.client.fetch("ps1")
    monkeypatch.setattr("coursework.store.MOST_SUBMISSIONS", 1)
    there.client.submit("ps1")
    with pytest.raises(wire.WireError, match="all of them are kept"):
        there.client.submit("ps1")
    assert folder.is_dir()


def test_one_assignments_submissions_leave_the_next_its_room(there, monkeypatch) -> None:
    monkeypatch.setattr(store, "QUOTA_FACTOR", 1)
    monkeypatch.setattr(store, "ALWAYS", 100_000)
    (there.layout.outbound / "ps2").mkdir()
    for name in ("ps1", "ps2"):
        there.client.fetch(name)
        (there.client.folder(name) / "data").write_bytes(bytes(600_000))
        there.client.submit(name)
    sent = there.client.list()["submissions"]
    with pytest.raises(wire.WireError, match="leave large files out"):
        there.client.submit("ps1")
    # nobody is locked out of handing in a notebook
    (there.client.folder("ps1") / "data").unlink()
    (there.client.folder("ps1") / "ps1.ipynb").write_text("[]")
    there.client.submit("ps1")
    # what the course's grader removes is room again
    shutil.rmtree(there.layout.submission(there.me, "ps1", sent[0]["submitted"]))
    (there.client.folder("ps1") / "data").write_bytes(bytes(600_000))
    there.client.submit("ps1")


def test_an_archived_course_gives_back_and_takes_nothing(there) -> None:
    folder = there.client.fetch("ps1")
    receipt = there.client.submit("ps1").receipt
    back = there.layout.given_back / there.me / "ps1" / receipt.submitted
    back.mkdir(parents=True)
    (back / "ps1.html").write_text("good")
    there.spooler.course = there.course.model_copy(update={"state": "archived"})
    with pytest.raises(wire.WireError, match="archived: nothing is handed out or in"):
        there.client.submit("ps1")
    folder.rename(folder.with_name("mine"))
    with pytest.raises(wire.WireError, match="archived: nothing is handed out or in"):
        there.client.fetch("ps1")
    listed = there.client.list()
    assert listed["archived"] and len(listed["submissions"]) == 1
    assert there.client.check(receipt)
    assert (there.client.feedback("ps1", receipt.submitted) / "ps1.html").read_text() == "good"


def test_a_door_gives_the_place_of_the_oldest_away() -> None:
    gone: list[str] = []
    door = Door(of_one=2, in_all=3)
    made = {}
    for name, address in (("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n1"), ("e", "n3")):
        made[name] = Silent(name, gone)
        door.enter(made[name], address)
    assert gone == ["a", "b"]  # n1's own oldest; then it is full, and b is the oldest of all
    door.leave(made["c"])
    door.enter(Silent("f", gone), "n2")
    assert gone == ["a", "b"]


class Silent:
    def __init__(self, name: str, gone: list[str]) -> None:
        self.name, self.gone = name, gone

    def abort(self) -> None:
        self.gone.append(self.name)


def test_who_says_nothing_keeps_nobody_out(there) -> None:
    where = ("127.0.0.1", there.client.place.port)
    idle = [socket.create_connection(where, 10) for _ in range(OF_ONE_ADDRESS + 20)]
    try:
        there.client.fetch("ps1")
        assert idle[0].recv(1) == b""  # the oldest lost its place at once
        began = time.monotonic()
        idle[-1].settimeout(10)
        assert idle[-1].recv(1) == b""
        assert time.monotonic() - began < 6
    finally:
        for one in idle:
            one.close()


def test_a_large_assignment_is_never_whole_in_memory(there) -> None:
    with (there.layout.outbound / "ps1" / "data").open("wb") as stream:
        stream.truncate(64_000_000)
    tracemalloc.start()
    try:
        folder = there.client.fetch("ps1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (folder / "data").stat().st_size == 64_000_000
    assert peak < 8_000_000


def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(there, monkeypatch) -> None:
    path = there.layout.outbound / "ps1" / "data"
    path.write_bytes(bytes(300_000))
    usual = wire.measure

    def measured(files: object) -> tuple[str, int]:
        found = usual(files)
        path.write_bytes(b"x")
        return found

    monkeypatch.setattr(wire, "measure", measured)
    with pytest.raises(wire.WireError):
        there.client.fetch("ps1")
    assert not (there.home / "hpc" / "ps1").exists()
    monkeypatch.setattr(wire, "measure", usual)
    there.client.fetch("ps1")


def test_a_slow_disk_holds_up_nobody_else(there, monkeypatch) -> None:
    there.client.fetch("ps1")
    synced, go = threading.Event(), threading.Event()

    def slow(path: Path) -> None:
        synced.set()
        assert go.wait(20)

    monkeypatch.setattr(store, "sync", slow)
    thread = threading.Thread(target=there.client.submit, args=("ps1",))
    thread.start()
    try:
        assert synced.wait(10)
        assert there.client.list()["submissions"] == []  # not there before it is on the disk
    finally:
        go.set()
        thread.join(20)
    assert len(there.client.list()["submissions"]) == 1


def test_what_goes_wrong_here_is_told_as_a_fault_and_the_next_is_served(there) -> None:
    there.client.fetch("ps1")
    there.layout.dates.write_text("damaged")
    with pytest.raises(wire.WireError, match="has a fault"):
        there.client.submit("ps1")
    there.layout.dates.unlink()
    there.client.submit("ps1")


def test_feedback_comes_whole_and_anew(there) -> None:
    there.client.fetch("ps1")
    sent = there.client.submit("ps1").receipt.submitted
    with pytest.raises(wire.WireError, match="no feedback"):
        there.client.feedback("ps1", sent)
    back = there.layout.given_back / there.me / "ps1" / sent
    back.mkdir(parents=True)
    (back / "ps1.html").write_text("good")
    target = there.client.feedback("ps1", sent)
    assert (target / "ps1.html").read_text() == "good"
    (back / "ps1.html").write_text("better")
    assert (there.client.feedback("ps1", sent) / "ps1.html").read_text() == "better"
    assert not gather.gather(
        there.client.folder("ps1"), max_bytes=10**6, max_files=5
    ).digests.keys() & {"feedback", "receipts"}


def test_a_nonce_is_used_once_also_after_a_restart(tmp_path) -> None:
    nonces = ledger.Nonces(tmp_path, now=1000)
    assert nonces.use("ab" * 16, 7, now=1000)
    assert not nonces.use("ab" * 16, 7, now=1001)
    later = ledger.Nonces(tmp_path, now=1100)
    assert not later.use("ab" * 16, 7, now=1100)
    assert ledger.Nonces(tmp_path, now=1000 + ledger.KEPT).use("ab" * 16, 7, now=9999)


def test_a_seal_is_the_courses_own(tmp_path) -> None:
    one, other = ledger.key(tmp_path), b"0" * 32
    assert ledger.key(tmp_path) == one
    receipt = records.Receipt(
        course="hpc", assignment="ps1", student="ada", uid=1, submitted="20260301T120000.000001Z",
        sha256="0" * 64, size=1, digests={}, number=1,
    )  # fmt: skip
    sealed = ledger.seal(receipt, one)
    assert ledger.genuine(sealed, one) and not ledger.genuine(sealed, other)
