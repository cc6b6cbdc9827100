"""Order, notifications, interruption, lock, image: what happens around single resources."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from agent_scratch import AgentError, Scratch, scratch

from provisioning.agent.host import Host
from provisioning.agent.lock import Lock
from provisioning.agent.packages import POLICY, POLICY_TEXT, Installed, _sentence
from provisioning.agent.packages import Outcome as AptOutcome
from provisioning.agent.record import DEFERRED, MANIFEST, PENDING
from provisioning.agent.session import REMOVALS
from provisioning.agent.work import Change
from provisioning.resources import (
    Command,
    Directory,
    Group,
    Image,
    Line,
    Package,
    Resource,
    User,
    file,
)


@pytest.fixture
def tree(tmp_path: Path) -> Scratch:
    return scratch(tmp_path / "tree")


def mark(tree: Scratch, name: str = "mark") -> Command:
    """A command that is run when notified, and appends to a file in the tree."""
    path = tree.path(f"/{name}")
    return Command(id=name, run=("tee", "-a", str(path)), stdin="x", on_notify=True)


def test_a_command_runs_when_its_check_fails(tree: Scratch) -> None:
    path = tree.path("/etc/done")
    command = Command(
        id="make", check=("test", "-e", str(path)), run=("touch", str(path)), summary="make it"
    )
    (change,) = tree.apply(command)
    assert (change.action, change.summary) == ("run", "make it")
    assert tree.plan(command) == []


def test_a_missing_check_program_means_needed(tree: Scratch) -> None:
    command = Command(id="x", check=("/no/such/program",), run=("true",))
    assert len(tree.plan(command)) == 1


def test_a_check_of_a_file_that_will_change_means_needed(tree: Scratch) -> None:
    """While planning, the file is still as it was, and the check would say so."""
    tree.write("/etc/wanted", "old\n")
    command = Command(id="x", check=("test", "/etc/wanted"), run=("true",))
    assert tree.plan(file("/etc/wanted", "old\n"), command) == []
    keys = [change.key for change in tree.plan(file("/etc/wanted", "new\n"), command)]
    assert keys == ["file:/etc/wanted", "command:x"]


def test_a_failed_command_says_what_it_said(tree: Scratch) -> None:
    command = Command(
        id="x", check=("false",), run=("sh", "-c", "cat; echo why >&2; exit 3"), stdin=""
    )
    session = tree.session({"base": [command]})
    session.begin()
    with pytest.raises(AgentError, match=r"sh ended with status 3:\nwhy"):
        session.apply("base", lambda _change: None, lambda: False)


def test_a_command_has_a_time_limit(tree: Scratch) -> None:
    command = Command(id="x", check=("false",), run=("sleep", "60"), timeout=1)
    session = tree.session({"base": [command]})
    session.begin()
    with pytest.raises(AgentError, match="sleep did not finish within 1 s"):
        session.apply("base", lambda _change: None, lambda: False)


def test_a_daemon_left_behind_is_not_waited_for() -> None:
    outcome = Host().run(["sh", "-c", "sleep 5 & echo started"], timeout=3)
    assert (outcome.code, outcome.output) == (0, "started\n")


def test_a_notification_is_answered_once(tree: Scratch) -> None:
    resources: list[Resource] = [
        file("/etc/a", "1", notify=("run:mark",)),
        mark(tree),
        file("/etc/b", "1", notify=("run:mark",)),
    ]
    keys = [change.key for change in tree.apply(*resources)]
    # Where it stands for what came before it, and at the stage's end for what came after.
    assert keys == ["file:/etc/a", "command:mark", "file:/etc/b", "command:mark"]
    assert tree.text("/mark") == "xx"
    assert not tree.path(PENDING).exists()
    assert tree.plan(*resources) == []


def test_a_notification_waits_for_the_stage_that_answers(tree: Scratch) -> None:
    tree.apply(base=[file("/etc/a", "1", notify=("run:mark",))], hub=[mark(tree)])
    assert tree.text("/mark") == "x"


def test_an_interrupted_run_keeps_its_notifications(tree: Scratch) -> None:
    resources: list[Resource] = [file("/etc/a", "1", notify=("run:mark",)), mark(tree)]
    calls = iter([False, True, True, True])
    made = tree.interrupted(lambda: next(calls), *resources)
    assert [change.key for change in made] == ["file:/etc/a"]
    assert not tree.path("/mark").exists()
    (change,) = tree.apply(*resources)
    assert change.key == "command:mark"
    assert "file:/etc/a" in change.summary
    assert tree.text("/mark") == "x"
    assert tree.plan(*resources) == []


def test_a_failed_answer_is_tried_again(tree: Scratch) -> None:
    blocked = Command(id="mark", run=("test", "-e", str(tree.path("/way"))), on_notify=True)
    resources: list[Resource] = [file("/etc/a", "1", notify=("run:mark",)), blocked]
    session = tree.session({"base": resources})
    session.begin()
    with pytest.raises(AgentError, match="test ended with status 1"):
        session.apply("base", lambda _change: None, lambda: False)
    tree.write("/way", "free")
    assert [change.key for change in tree.apply(*resources)] == ["command:mark"]


def test_a_removed_file_notifies_too(tree: Scratch) -> None:
    tree.apply(file("/etc/a", "1", notify=("run:mark",)), mark(tree))
    keys = [change.key for change in tree.apply(mark(tree))]
    assert keys == ["file:/etc/a", "command:mark"]
    assert tree.text("/mark") == "xx"


def test_the_manifest_tells_what_a_failed_run_did(tree: Scratch) -> None:
    resources: list[Resource] = [
        file("/etc/a", "1"),
        file("/etc/none/b", "1"),
        file("/etc/c", "1"),
    ]
    session = tree.session({"base": resources})
    session.begin()
    with pytest.raises(AgentError):
        session.apply("base", lambda _change: None, lambda: False)
    entries = json.loads(tree.text(MANIFEST))["entries"]
    assert list(entries) == ["file:/etc/a"]
    assert entries["file:/etc/a"]["done"] is True
    tree.path("/etc/none").mkdir()
    assert len(tree.apply(*resources)) == 2


def test_a_damaged_manifest_is_a_sentence(tree: Scratch) -> None:
    tree.write(MANIFEST, "{")
    with pytest.raises(AgentError, match=r"manifest\.json is damaged"):
        tree.plan(file("/etc/a", "1"))


def test_one_apply_at_a_time(tree: Scratch) -> None:
    host = Host(str(tree.root))
    held = Lock(host, "ines@desk (process 7)")
    with pytest.raises(AgentError, match=r"another apply .* ines@desk \(process 7\)"):
        Lock(host, "somebody else")
    held.release()
    Lock(host, "somebody else").release()


def test_an_image_takes_what_is_for_images(tmp_path: Path) -> None:
    tree = scratch(tmp_path / "image", image=True)
    made = tree.apply(
        file("/etc/a", "1", notify=("restart:a",)),
        file("/etc/secret", "1", secret=True),
        file("/etc/hostname", "n\n", image=Image.DEFER),
        Command(id="later", run=("true",), check=("false",)),
    )
    assert [change.key for change in made] == ["file:/etc/a"]
    deferred = json.loads(tree.text(DEFERRED))["resources"]
    assert sorted(deferred) == ["command:later", "file:/etc/hostname"]
    assert not tree.path(PENDING).exists()
    assert not tree.path("/etc/secret").exists()


def test_left_over_policies_are_cleared_away(tree: Scratch) -> None:
    """A killed run must not leave a machine on which no package can start its service."""
    tree.write(POLICY, POLICY_TEXT, 0o755)
    session = tree.session({"base": []})
    (change,) = session.plan()["changes"]
    assert change["key"] == "agent:policy-rc.d"
    session.begin()
    assert not tree.path(POLICY).exists()
    tree.write(POLICY, "#!/bin/sh\nexit 0\n")
    assert tree.plan() == []


STATUS = """Package: munge
Status: install ok installed
Provides: munge-api (= 1), other
Version: 0.5.15-2

Package: gone
Status: deinstall ok config-files
Version: 1

Package: half
Status: install ok half-configured
Version: 2
Description: x
 Package: not-one
"""


def test_dpkgs_table_is_read(tree: Scratch) -> None:
    tree.write("/var/lib/dpkg/status", STATUS)
    installed = Installed(Host(str(tree.root)))
    assert installed.versions == {"munge": "0.5.15-2"}
    assert installed.broken == ["half"]
    assert [installed.has(n) for n in ("munge", "munge-api", "other", "gone")] == [
        True,
        True,
        True,
        False,
    ]
    changes = tree.plan(Package(package="munge"), Package(package="nano"))
    assert [change.key for change in changes] == ["agent:dpkg", "package:nano"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("E: Unable to locate package nonesuch\n", "apt knows no package nonesuch"),
        ("E: Package 'x' has no installation candidate", "apt knows no package x"),
        ("Err:1 http://m\n  Could not resolve 'm'\nE: Failed to fetch", "cannot be reached"),
        ("dpkg: error: cannot copy: No space left on device", "no space is left"),
        ("E: Could not get lock /var/lib/dpkg/lock. It is held", "/var/lib/dpkg/lock"),
        ("E: Something new\n", "apt-get failed:\nE: Something new"),
    ],
)
def test_apts_words_become_a_sentence(said: str, expected: str) -> None:
    assert expected in _sentence(AptOutcome(100, said), "apt-get")


PASSWD = "root:x:0:0::/root:/bin/sh\nada:x:2001:2000:Ada:/home/ada:/bin/bash\n"
GROUP = "root:x:0:\nstudents:x:2000:\nsudo:x:27:ada\n"


def test_accounts_with_other_numbers_are_refused(tree: Scratch) -> None:
    tree.write("/etc/passwd", PASSWD)
    tree.write("/etc/group", GROUP)
    errors = tree.errors(
        Group(group="students", gid=2002),
        Group(group="new", gid=27),
        User(user="ada", uid=2005, group="students"),
        User(user="eve", uid=2001, group="students"),
    )
    assert len(errors) == 4
    assert "group students has gid 2000 here and should have 2002" in errors[0]
    assert "sudo has it on this node" in errors[1]
    assert "user ada has uid 2001 here and should have 2005" in errors[2]
    assert "ada has it on this node" in errors[3]


def test_groups_that_others_gave_stay(tree: Scratch) -> None:
    tree.write("/etc/passwd", PASSWD)
    tree.write("/etc/group", GROUP)
    ada = User(
        user="ada",
        uid=2001,
        group="students",
        home="/home/ada",
        shell="/bin/bash",
        full_name="Ada",
    )
    assert tree.plan(Group(group="students", gid=2000), ada) == []


def test_every_line_of_one_file_is_removed_with_it(tree: Scratch) -> None:
    tree.apply(file("/etc/a", "1\n"), Line(path="/etc/a", line="2"), Directory(path="/etc/d"))
    keys = [change.key for change in tree.apply()]
    assert keys == ["file:/etc/a", "directory:/etc/d"]


def test_the_agent_is_python_3_9() -> None:
    folder = Path(__file__).parents[2] / "provisioning" / "agent"
    sources = sorted(folder.glob("*.py"))
    assert len(sources) > 10
    for source in sources:
        ast.parse(source.read_text(), feature_version=(3, 9))


def test_a_folder_that_went_with_what_it_was_on_is_no_fault(tree: Scratch) -> None:
    """As one in a mount that the same run takes off."""
    tree.apply(file("/etc/a", "1\n"), Directory(path="/shared"))
    session = tree.session({})
    assert len(session.plan()["changes"]) == 2
    session.begin()
    made: list[Change] = []

    def meanwhile(change: Change) -> None:
        made.append(change)
        if change.key == "file:/etc/a":
            tree.path("/shared").rmdir()

    session.apply(REMOVALS, meanwhile, lambda: False)
    session.finish()
    assert [change.key for change in made] == ["file:/etc/a", "directory:/shared"]
