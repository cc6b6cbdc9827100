"""What checks make of what nodes told: pure functions, one sentence for each fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.model import Cluster
from practicum.rooms import CHECKS
from provisioning.agent.look import mount_of
from provisioning.facts import Facts
from provisioning.health import Answer, Finding, Level, Look, Picture, judge
from provisioning.health.model import Disk, Folder, Page, Unit

NAMES = ("login", "node01", "node02")
SEP = "\x1fab\x1f"


def cluster() -> Cluster:
    return Cluster.model_validate(
        {
            "cluster": {"name": "class"},
            "network": {"subnet": "10.0.0.0/24"},
            "nodes": [
                {"name": "login", "address": "10.0.0.1",
                 "roles": ["login", "controller", "database", "storage"]},
                {"name": "node[01-02]", "address": "10.0.0.2", "roles": ["compute"]},
            ],
        }
    )  # fmt: skip


def sinfo(**states: str) -> str:
    rows = []
    for name in ("node01", "node02"):
        state, _, reason = states.get(name, "idle").partition(" ")
        cells = [name, "batch", state, "4", "0/4/0/4", "4000", "3000", "0.1", reason or "none"]
        rows.append(SEP.join(cells) + SEP)
    return "\n".join(rows) + "\n"


def parts(*states: str) -> str:
    names = ("notebook", "batch")
    return "".join(f"{name}{SEP}{state}{SEP}\n" for name, state in zip(names, states, strict=True))


def answers() -> dict[str, Answer]:
    modules = Answer(0, '{"current": true, "broken": {}, "site": []}')
    return {
        "slurm.nodes": Answer(0, sinfo()),
        "slurm.partitions": Answer(0, parts("up", "up")),
        "slurm.database": Answer(0),
        "modules.state": modules,
    }


def look(name: str, **more: object) -> Look:
    login = name == "login"
    services = ("munge.service", *(("slurmctld.service",) if login else ("slurmd.service",)))
    found = Look(
        facts=Facts(os_id="debian", os_codename="bookworm"),
        memory_mb=4000,
        memory_free_mb=2000,
        disks=(Disk("/", 1000, 500),),
        units={one: Unit("loaded", "active", "enabled") for one in services},
        services=services,
        answers=answers() if login else {},
        pages={"hub.health": Page(200), "hub.proxy": Page(200)} if login else {},
        folders={path: Folder(shared=True, mount=("nas:/x", "nfs4")) for path in ("/home", "/nfs")},
        opened={other: 0 for other in NAMES if other != name and (login or other == "login")},
    )
    return replace(found, **more)  # type: ignore[arg-type]


def picture(errors: dict[str, str] | None = None, **looks: Look) -> Picture:
    given = {name: looks.get(name) or look(name) for name in NAMES}
    errors = errors or {}
    return Picture(cluster(), {n: one for n, one in given.items() if n not in errors}, errors)


def bad(seen: Picture) -> list[str]:
    return [one.text for one in judge(CHECKS, seen) if one.level is Level.BAD]


def stopped(name: str, service: str, active: str = "inactive") -> Look:
    one = look(name)
    units = {**one.units, f"{service}.service": Unit("loaded", active, "enabled")}
    return replace(one, units=units)


def test_a_healthy_cluster_has_nothing_but_good_news() -> None:
    findings = judge(CHECKS, picture())
    assert {finding.level for finding in findings} == {Level.OK}
    assert Finding("", "slurm", Level.OK, "Slurm: 2 nodes take jobs") in findings


def test_a_dead_node_is_told_once() -> None:
    looks = look("login", answers={"slurm.nodes": Answer(0, sinfo(node01="down* Not responding"))})
    assert bad(picture({"node01": "node01 does not answer"}, login=looks)) == [
        "node01 does not answer"
    ]


def test_a_stopped_daemon_is_told_once() -> None:
    """Also when Slurm has noticed meanwhile."""
    login = look("login", answers={"slurm.nodes": Answer(0, sinfo(node01="down* Not responding"))})
    (text,) = bad(picture(login=login, node01=stopped("node01", "slurmd", "failed")))
    assert text.startswith("slurmd has failed on node01: see journalctl -u slurmd")
    unnoticed = picture(node01=stopped("node01", "munge"))
    assert bad(unnoticed) == ["munge does not run on node01 (inactive): practicum apply starts it"]
    assert "take jobs" not in "".join(one.text for one in judge(CHECKS, unnoticed))


@pytest.mark.parametrize(
    "state, words",
    [
        ("drained low disk", "node01 takes no jobs (drained): low disk; practicum node resume"),
        ("drained Low RealMemory [slurm@2026]", "less memory than slurm.conf says"),
        ("down* Not responding", "node01 is down, and does not answer Slurm: its slurmd does not"),
        ("inval", "is not what slurm.conf says it is"),
    ],
)
def test_states_in_plain_words(state: str, words: str) -> None:
    login = look("login", answers={"slurm.nodes": Answer(0, sinfo(node01=state))})
    (text,) = bad(picture(login=login))
    assert words in text


@pytest.mark.parametrize(
    "state, words",
    [
        ("down", "takes no jobs (state down)"),
        ("drain", "takes no new jobs (state drain)"),
        ("inact", "takes no jobs (state inactive)"),
    ],
)
def test_a_partition_that_is_closed(state: str, words: str) -> None:
    told = {**answers(), "slurm.partitions": Answer(0, parts("up", state))}
    assert bad(picture(login=look("login", answers=told))) == [
        f"partition batch {words}: scontrol update PartitionName=batch State=UP on login opens it"
    ]


def test_a_reason_cannot_draw_on_the_terminal() -> None:
    login = look("login", answers={"slurm.nodes": Answer(0, sinfo(node01="drained a\x1b[2Jb"))})
    assert "\x1b" not in bad(picture(login=login))[0]


@pytest.mark.parametrize(
    "offset, said",
    [
        (0.4, ""),
        (-30, "the clock of node01 is 30 s behind login's"),
        (3600, "60 min ahead of login's, beyond munge's 300 s: Slurm does not trust it"),
    ],
)
def test_clocks(offset: float, said: str) -> None:
    """A wrong clock makes munge refuse: that is told as the clock's fault, not munge's."""
    opened = {"node01": 16 if offset > 300 else 0, "node02": 0}
    told = bad(picture(login=look("login", opened=opened), node01=look("node01", clock=offset)))
    assert len(told) == bool(said)
    assert all(said in text for text in told)


def test_another_munge_key() -> None:
    login = look("login", opened={"node01": 14, "node02": 0})
    node01 = look("node01", opened={"login": 14})
    (text,) = bad(picture(login=login, node01=node01))
    assert text.startswith("node01 has another munge key than login")


def test_storage() -> None:
    def at(folder: Folder) -> list[str]:
        return bad(picture(node02=look("node02", folders={"/home": folder})))

    assert at(Folder(shared=False)) == [
        "/home is not mounted on node02: mount it, or restart remote-fs.target there"
    ]
    assert "read-only" in at(Folder(shared=True, readonly=True))[0]
    assert "is the file server up?" in at(Folder(there=False, error="does not answer"))[0]
    assert "not the one of login (ext4 from /dev/sda1)" in at(
        Folder(shared=False, mount=("/dev/sda1", "ext4"))
    )[0]  # fmt: skip
    login = look("login", tokens={"/home": "No space left on device", "/nfs": ""})
    assert bad(picture(login=login))[0].startswith("login cannot write to /home (No space left")


def test_disks_by_bytes_and_by_inodes() -> None:
    def at(*disk: int) -> list[Finding]:
        seen = picture(node01=look("node01", disks=(Disk("/", *disk),)))
        return [one for one in judge(CHECKS, seen) if one.topic == "disks"]

    assert at(1000, 200) == []
    assert at(1000, 100)[0].level is Level.WARN
    assert at(1000, 1)[0].text == "/ on node01 is full (0 MB left)"
    assert "no more room for new files" in at(1000, 900, 100, 2)[0].text


def test_the_hub() -> None:
    pages = {"hub.health": Page(200), "hub.proxy": Page(0, "Connection refused")}
    services = ("munge.service", "practicum-proxy.service", "practicum-hub.service")
    units = {one: Unit("loaded", "active", "enabled") for one in services}
    login = look("login", pages=pages, services=services, units=units)
    (text,) = bad(picture(login=login))
    assert text.startswith("the hub's proxy on login does not answer at http://10.0.0.1:8000")


@pytest.mark.parametrize(
    "said, told",
    [
        ("is on (enforced)", False),
        ("is on", False),
        ("is on (accounting)", True),
        ("is off", True),
        (None, True),
    ],
)
def test_quotas(said: str | None, told: bool) -> None:
    data = cluster().model_dump(mode="json")
    data["storage"] |= {"provider": "nfs", "quotas": True}
    lines = [f"{kind} quota on /srv/practicum (/dev/vdb) {said}" for kind in ("group", "user")]
    answers = {**look("login").answers, "quota.on": Answer(0, "\n".join(lines) if said else "")}
    seen = replace(
        picture(login=look("login", answers=answers)), cluster=Cluster.model_validate(data)
    )
    assert any("quotas are off on login" in text for text in bad(seen)) is told


def test_a_node_that_slurm_does_not_know() -> None:
    login = look("login", answers={"slurm.nodes": Answer(0, sinfo().replace("node02", "node09"))})
    (text,) = bad(picture(login=login))
    assert text.startswith("Slurm does not know node02: practicum apply")


def test_what_is_mounted_where() -> None:
    table = (
        "22 1 0:20 / / rw - ext4 /dev/root rw\n"
        "30 22 0:40 / /home rw,relatime shared:1 - autofs systemd-1 rw\n"
        "31 30 0:41 / /home rw shared:2 - nfs4 login:/home rw\n"
        "32 22 0:42 / /nfs rw - autofs systemd-1 rw\n"
    )
    assert mount_of(table, "/home") == ["login:/home", "nfs4"]
    assert mount_of(table, "/nfs") is None
    assert mount_of("", "/home") is None


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answer(0, '{"current": false, "broken": {}}'), "at once with practicum module refresh"),
        (Answer(0, '{"current": true, "broken": {"/n/a/1.lua": "bad"}}'),
         "Lmod cannot read /n/a/1.lua: bad"),
        (Answer(1, "", "Permission denied"), "(Permission denied): run practicum apply"),
        (Answer(-1), "(no answer): run practicum apply"),
        (Answer(0, "nonsense"), "cannot tell how the modulefiles in"),
    ],
)  # fmt: skip
def test_modulefiles_with_a_fault_are_told(answer: Answer, sentence: str) -> None:
    login = look("login", answers={**answers(), "modules.state": answer})
    found = judge(CHECKS, picture(login=login))
    assert [sentence in one.text for one in found if one.level is Level.WARN] == [True]
