"""What is taken off: clients before their file server, and mounts whose server is away."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from agent_scratch import scratch
from test_roles import small

from cluster.model import Cluster, Node
from provisioning import engine
from provisioning.agent import host, mounts
from provisioning.agent.host import AgentError, Host, Outcome, TooSlowError
from provisioning.agent.session import CLIENT_REMOVALS, REMOVALS
from provisioning.agent.work import Run
from provisioning.planning import Result
from provisioning.report import Silent
from provisioning.resources import Mount, Resource, file
from provisioning.role import Role
from provisioning.transport import LocalTarget

SHARE = Mount(source="login:/srv/home", target="/home", fstype="nfs", options="_netdev")
BIND = Mount(source="/srv/home", target="/home", fstype="none", options="bind")
EXPORTS = file("/etc/exports", "/srv/home 192.0.2.0/24\n")
CLIENT, SERVER = "node01", "login"


# -- the order of nodes


class Heard(Silent):
    """Which node came to which state, in order."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []

    def node_state(self, node: str, state: str) -> None:
        self.states.append((node, state))


@pytest.fixture
def apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Real agents at work on images instead of nodes: of a file server, and of its client."""
    for name in (CLIENT, SERVER):
        (tmp_path / name / "etc").mkdir(parents=True)

    def target(_cluster: Cluster, node: Node, _base: Path) -> LocalTarget:
        return LocalTarget(node.name, str(tmp_path / node.name), image=True)

    monkeypatch.setattr(engine, "ssh_target", target)

    def work(**here: Sequence[Resource]) -> tuple[Result, Heard]:
        described = small()
        roles = [
            Role(name, "storage", lambda _cluster, node, name=name: node.name == name,
                 lambda _context, wanted=wanted: wanted)
            for name, wanted in here.items()
        ]  # fmt: skip
        heard = Heard()
        result = engine.apply(
            described, roles, {}, base=tmp_path, limit=(CLIENT, SERVER),
            confirm=lambda _plan: True, reporter=heard,
        )  # fmt: skip
        return result, heard

    return work


def test_clients_let_go_before_their_server_stops(apply: Callable[..., Any]) -> None:
    made, _ = apply(login=[BIND, EXPORTS], node01=[SHARE])
    assert made.ok, made.errors
    gone, heard = apply()
    assert gone.ok, gone.errors
    stages = {(node, change.stage) for node, change in gone.plan.changes()}
    assert stages == {(CLIENT, CLIENT_REMOVALS), (SERVER, REMOVALS)}
    steps = [state for state in heard.states if state[1].startswith("stage ")]
    assert steps == [(CLIENT, f"stage {CLIENT_REMOVALS}"), (SERVER, f"stage {REMOVALS}")]
    assert apply()[0].changed == 0


def test_a_server_stays_while_a_client_cannot_let_go(
    apply: Callable[..., Any], tmp_path: Path
) -> None:
    assert apply(login=[BIND, EXPORTS], node01=[SHARE])[0].ok
    in_the_way = tmp_path / CLIENT / "etc/.fstab.practicum-new"
    in_the_way.mkdir()  # its /etc/fstab cannot be written
    gone, _ = apply()
    assert set(gone.errors) == {CLIENT, SERVER}
    assert "nothing was taken away from login: node01 failed" in gone.errors[SERVER]
    assert (tmp_path / SERVER / "etc/exports").exists()
    in_the_way.rmdir()
    again, _ = apply()
    assert again.ok, again.errors
    assert not (tmp_path / SERVER / "etc/exports").exists()


def test_what_is_mounted_from_here_waits_for_nobody(tmp_path: Path) -> None:
    tree = scratch(tmp_path / "tree", image=True)
    tree.apply(BIND)
    assert [change.stage for change in tree.plan()] == [REMOVALS]


@pytest.mark.parametrize(
    ("line", "remote"),
    [
        ("login:/srv/home /home nfs _netdev 0 0", True),
        ("login:/srv/home /home nfs4", False),  # no options: not a whole line
        ("# login:/srv/home /home nfs _netdev 0 0", False),
        ("login:/srv/home /homes nfs _netdev 0 0", False),
        ("/srv/home /home none bind 0 0", False),
    ],
)
def test_what_comes_over_the_network(line: str, remote: bool) -> None:
    assert mounts.over_network(f"# static\n{line}\n", "/home") is remote


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("ro,x-systemd.device-timeout=30s", "ro,x-systemd.device-timeout=300s,nofail", True),
        ("ro,x-systemd.automount", "ro", False),
        ("ro,x-systemd.idle-timeout=60", "ro,x-systemd.idle-timeout=600", False),
        ("ro", "rw,x-systemd.device-timeout=30s", False),
    ],
)
def test_what_is_for_the_next_start_moves_no_mount(old: str, new: str, same: bool) -> None:
    """Nobody's open files are worth a time limit at boot."""

    def shows(options: str) -> tuple[str, ...]:
        return mounts.as_mounted(f"#\n/dev/sdb1\t/srv ext4 {options} 0 0\n", "/srv")

    assert (shows(old) == shows(new)) is same
    assert shows(old)[:2] == ("/dev/sdb1", "ext4")
    assert mounts.as_mounted("#/dev/sdb1 /srv ext4 ro\n", "/srv") == ()


# -- a server that is away

ROW = "36 35 0:40 / {target} rw,relatime shared:1 - {kind} {source} {options}\n"
AUTOFS = ROW.format(target="/home", kind="autofs", source="systemd-1", options="rw,fd=50")


def nfs(port: int, address: str = "127.0.0.1") -> str:
    options = f"rw,vers=4.1,hard,port={port},clientaddr=127.0.0.1,addr={address}"
    return ROW.format(target="/home", kind="nfs4", source="login:/srv/home", options=options)


class Machine(Host):
    """One with /home from a file server, in which `umount` waits as it does for one that is away.
    (A kernel with NFS, and a server to switch off, are in tests/vm.)"""

    def __init__(self, port: int, hangs: tuple[str, ...] = (), sticks: bool = False) -> None:
        super().__init__()
        self.table = AUTOFS + nfs(port)
        self.hangs, self.sticks = hangs, sticks
        self.ran: list[list[str]] = []

    def text(self, path: str) -> str:
        return self.table if path == "/proc/self/mountinfo" else super().text(path)

    def run(self, argv: Sequence[str], *_rest: Any, timeout: float = 60, **_more: Any) -> Outcome:
        words = list(argv)
        assert 0 < timeout <= 120, "a wait without a limit"
        if words[0] == "systemd-escape":
            return Outcome(0, "home.automount\n")
        self.ran.append(words)
        if words[0] == "umount":
            if not self.sticks:
                rows = self.table.splitlines(keepends=True)
                gone = [row for row in rows if f" {words[-1]} " in row and "autofs" not in row]
                self.table = "".join(row for row in rows if row not in gone)
            if ("--lazy" if "--lazy" in words else "plain") in self.hangs:
                raise TooSlowError("umount did not finish within 120 s")
        return Outcome(0, "")


@pytest.fixture
def port() -> Iterator[int]:
    """A server that answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port where nobody listens."""
    monkeypatch.setattr(mounts, "PAUSE_SECONDS", 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def take_off(made: Machine) -> list[str]:
    """What was told."""
    run = Run.__new__(Run)  # without the manifest of this machine
    told: list[str] = []
    run.host, run.tell = made, told.append
    mounts.take_off(run, "/home", "end what uses it and apply again")
    return told


LAZY = ["umount", "--internal-only", "--no-canonicalize", "--force", "--lazy", "/home"]


def test_a_server_that_answers_is_left_properly(port: int) -> None:
    made = Machine(port)
    assert take_off(made) == []
    assert made.ran[1:] == [["umount", "/home"], ["systemctl", "stop", "home.automount"]]


def test_images_on_it_are_let_go_first(port: int, away: int) -> None:
    """Of kernels, which autofs mounts; others' stay."""
    files = {"0": "/home/envs/a b.squashfs\n", "1": "/srv/other.img\n", "12": "/home2/x.img\n"}

    class WithImages(Machine):
        def text(self, path: str) -> str:
            if path.startswith("/sys/block/"):
                return files[
                    path.removeprefix("/sys/block/loop").removesuffix("/loop/backing_file")
                ]
            return super().text(path)

    for server, gone in ((port, [["umount", "/run/k/a b@1"]]), (away, [])):
        made = WithImages(server)
        for number in files:
            place = {"0": "/run/k/a\\040b@1"}.get(number, f"/mnt/{number}")
            made.table += ROW.format(
                target=place, kind="squashfs", source=f"/dev/loop{number}", options="ro"
            )
        take_off(made)
        assert [words for words in made.ran if words[:2] == ["umount", "/run/k/a b@1"]] == gone
        assert not any("/mnt/" in words[-1] for words in made.ran)
        assert made.ran[1][-1] == ("/home" if server == away else "/run/k/a b@1")


def test_a_server_that_is_away_is_not_waited_for(away: int) -> None:
    made = Machine(away, hangs=("plain",))
    (told,) = take_off(made)
    assert "file server 127.0.0.1 does not answer: /home is taken off without it" in told
    assert made.ran[1:] == [LAZY, ["systemctl", "stop", "home.automount"]]


def test_a_lazy_umount_that_hangs_and_worked_is_enough(away: int) -> None:
    made = Machine(away, hangs=("plain", "--lazy"))
    take_off(made)
    assert made.ran[-1] == ["systemctl", "stop", "home.automount"]


def test_a_mount_that_stays_is_told(away: int) -> None:
    made = Machine(away, sticks=True)
    with pytest.raises(AgentError, match="/home cannot be taken off, and its file server"):
        take_off(made)
    assert ["systemctl", "stop", "home.automount"] not in made.ran


def test_a_server_that_is_slow_is_not_taken_for_away(port: int) -> None:
    made = Machine(port, hangs=("plain",), sticks=True)
    with pytest.raises(TooSlowError, match="umount did not finish"):
        take_off(made)
    assert LAZY not in made.ran


def test_a_server_that_goes_in_the_middle(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, False])
    monkeypatch.setattr(mounts, "answers", lambda _server: next(answers))
    made = Machine(port, hangs=("plain",), sticks=False)
    made.table = AUTOFS + nfs(port)
    assert len(take_off(made)) == 1
    assert LAZY in made.ran


def test_all_that_is_away_is_left_before_systemd_looks_at_any(
    away: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[mounts.Server] = []
    real = mounts.answers
    monkeypatch.setattr(mounts, "answers", lambda server: asked.append(server) or real(server))
    made = Machine(away)
    made.table += nfs(away).replace("/home", "/nfs")
    run = Run.__new__(Run)
    told: list[str] = []
    run.host, run.tell = made, told.append
    mounts.leave_away(run, ["/home", "/nfs", "/elsewhere"])
    assert [words[-1] for words in made.ran] == ["/home", "/nfs"]
    assert all(words[0] == "umount" and "--lazy" in words for words in made.ran)
    assert len(told) == 2
    assert len(asked) == 1


def test_what_is_left_is_what_goes_or_comes_from_elsewhere(tmp_path: Path) -> None:
    tree = scratch(tmp_path / "tree", image=True)
    tree.apply(SHARE)
    moved = Mount(source="new:/srv/home", target="/home", fstype="nfs", options="_netdev")
    for declared, places in (([SHARE], []), ([moved], ["/home"]), ([], ["/home"])):
        assert tree.session({"storage": list(declared)})._let_go() == places


def test_layers_of_a_place() -> None:
    made = Machine(0)
    made.table = AUTOFS + nfs(0, "fd00::5") + nfs(7).replace("/home", "/nfs")
    assert mounts.layers(made, "/home") == [
        mounts.Layer("autofs", None),
        mounts.Layer("nfs4", ("fd00::5", mounts.NFS_PORT)),
    ]
    made.table = ROW.format(target="/mnt/my\\040disk", kind="ext4", source="/dev/x", options="rw")
    assert mounts.layers(made, "/mnt/my disk") == [mounts.Layer("ext4", None)]


def test_a_command_in_the_kernels_hands_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, it does not end before what it waits for is back."""
    monkeypatch.setattr("os.killpg", lambda _pid, _signal: None)
    monkeypatch.setattr(host, "KILLED_SECONDS", 0.2)
    with pytest.raises(TooSlowError, match="sleep did not finish within 1 s"):
        Host().run(["sleep", "5"], timeout=1)
