"""The whole agent in a process of its own, as it runs on a node, on a scratch tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provisioning import payload
from provisioning.engine import apply_target
from provisioning.facts import Facts
from provisioning.report import Silent
from provisioning.resources import Command, Declared, Image, Resource, file
from provisioning.session import AgentRefusalError, Session
from provisioning.transport import LocalTarget, ProcessChannel, TransportError, image_target

pytestmark = pytest.mark.daemons


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    return folder


def declared(*resources: Resource) -> Declared:
    return Declared("node", (("base", resources),))


def test_from_nothing_to_no_change(root: Path) -> None:
    target = image_target(root)
    what = declared(file("/etc/motd", "hello\n"), file("/etc/issue", "\u00e9\n"))
    first = apply_target(target, what, Silent())
    assert (first.changed, first.error) == (2, "")
    assert (root / "etc/issue").read_text() == "\u00e9\n"
    second = apply_target(target, what, Silent())
    assert (second.changed, second.error) == (0, "")
    third = apply_target(target, declared(), Silent())
    assert [change.action for change in third.changes] == ["remove", "remove"]


def test_facts_are_this_machines() -> None:
    session = Session(LocalTarget(), Silent())
    facts = session.open()
    session.close()
    assert isinstance(facts, Facts)
    assert facts.hostname == os.uname().nodename
    assert facts.cpus == facts.sockets * facts.cores_per_socket * facts.threads_per_core > 0
    assert facts.memory_mb > 100
    assert facts.python.startswith("3.")


def test_an_error_stops_and_is_told(root: Path) -> None:
    result = apply_target(
        image_target(root),
        declared(file("/etc/a", "1"), file("/etc/no/b", "1"), file("/etc/c", "1")),
        Silent(),
    )
    assert result.changed == 1
    assert "/etc/no is not there" in result.error
    assert not (root / "etc/c").exists()


def test_an_unknown_kind_is_told(root: Path) -> None:
    session = Session(image_target(root), Silent())
    session.open()
    with pytest.raises(AgentRefusalError, match="kind 'spell'"):
        session.ask(
            {
                "op": "plan",
                "key": "",
                "stages": [["base", [{"kind": "spell", "key": "spell:x", "image": "apply"}]]],
            },
            10,
        )
    session.close()


def test_an_image_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = apply_target(LocalTarget("x", str(tmp_path / "none"), True), declared(), Silent())
    assert "is not a folder" in result.error


def test_two_at_once_on_one_image(root: Path) -> None:
    first, second = (Session(image_target(root), Silent()) for _ in range(2))
    for session in (first, second):
        session.open()
        session.plan(declared(file("/etc/a", "1")), "")
    first.begin("ada@here")
    with pytest.raises(AgentRefusalError, match=r"another apply is at work.*ada@here"):
        second.begin("ben@there")
    first.stage("base")
    first.finish()
    # The plan of the second is of a system that is no more.
    with pytest.raises(AgentRefusalError, match="since the plan"):
        second.begin("ben@there")
    first.close()
    second.close()


def agent_with_slow_command(root: Path) -> ProcessChannel:
    """An agent in the middle of a stage: /etc/a is written, a command of a second runs."""
    channel = LocalTarget("local", str(root)).open()
    assert isinstance(channel, ProcessChannel)
    marks = (f"sleep 1; echo x >> {root}/mark",)
    slow = Command(id="slow", check=("false",), run=("sh", "-c", *marks), image=Image.APPLY)
    resources = [file("/etc/a", "1", notify=("run:slow",)), slow, file("/etc/b", "1")]
    wires = [resource.to_wire() for resource in resources]
    channel.send({"op": "plan", "stages": [["base", wires]], "key": ""})
    assert channel.receive(10)["event"] == "plan"
    channel.send({"op": "begin", "from": "test"})
    assert channel.receive(10)["event"] == "begun"
    channel.send({"op": "stage", "name": "base"})
    while channel.receive(10).get("key") != "file:/etc/a":
        pass
    channel.receive(10)  # the command's step
    return channel


def test_a_cut_connection_finishes_what_was_begun(root: Path) -> None:
    channel = agent_with_slow_command(root)
    channel.close()  # waits for the agent's end
    assert (root / "mark").read_text() == "x\n"
    assert not (root / "etc/b").exists()
    session = Session(LocalTarget("local", str(root)), Silent())
    session.open()
    session.plan(declared(file("/etc/a", "1"), file("/etc/b", "1")), "")
    session.begin("again")  # the lock is free
    session.stage("base")
    session.close()
    assert (root / "etc/b").read_text() == "1"


def test_a_killed_agent_keeps_its_notification(root: Path) -> None:
    channel = agent_with_slow_command(root)
    os.kill(channel.pid, signal.SIGKILL)
    with pytest.raises(TransportError, match="has ended"):
        while True:
            channel.receive(10)
    channel.close()
    mark = Command(id="slow", run=("touch", f"{root}/answered"), on_notify=True)
    session = Session(LocalTarget("local", str(root)), Silent())
    session.open()
    part = session.plan(declared(file("/etc/a", "1"), mark), "")
    assert [change.key for change in part.changes] == ["command:slow"]
    session.begin("again")
    session.stage("base")
    session.close()
    assert (root / "answered").exists()
    time.sleep(1.1)  # the orphan of the killed agent ends within a second


def test_the_blob_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """In isolated mode, from an empty folder, without practicum on any path."""
    program, blob = payload.build({"root": str(tmp_path), "image": False})
    done = subprocess.run(
        [sys.executable, "-ISc", program],
        input=blob + b'{"op": "hello", "packages": []}\n{"op": "bye"}\n',
        capture_output=True,
        cwd=tmp_path,
        timeout=30,
        check=True,
    )
    assert b'"event": "hello"' in done.stdout
    assert done.stderr == b""
    assert len(blob) < 60_000
