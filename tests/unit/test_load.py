"""cluster.toml: what is accepted, and the sentence for everything that is not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ConfigError
from cluster.load import dotted, load, load_public, public_json
from cluster.toml_lines import Lines, Place

GOOD = """\
[cluster]
name = "class"

[network]
subnet = "10.1.0.0/24"
gateway = "10.1.0.1"

[[nodes]]
name = "login"
address = "10.1.0.10"
roles = ["login", "controller", "database", "storage"]

[[nodes]]
name = "node[01-02]"
address = "10.1.0.11"
roles = ["compute"]
cpus = 4
memory_mb = 4000

[[groups]]
name = "students"
gid = 2000
role = "student"

[[users]]
name = "ada"
uid = 3000
groups = ["students"]

[[partitions]]
name = "batch"
nodes = "ALL"
default = true

[[profiles]]
name = "small"
title = "Small"
partition = "batch"

[[kernels]]
name = "python3"
title = "Python"
packages = ["numpy"]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str) -> str:
    """The error without the folder, which differs from run to run."""
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_a_good_file(tmp_path: Path) -> None:
    cluster = load(write(tmp_path, GOOD))
    assert [node.address for node in cluster.machines] == ["10.1.0.10", "10.1.0.11", "10.1.0.12"]


def test_public_copy(tmp_path: Path) -> None:
    cluster = load(write(tmp_path, GOOD + '\n[ssh]\nkey = "elsewhere"\n'))
    copy = tmp_path / "cluster.json"
    copy.write_text(public_json(cluster))
    assert "elsewhere" not in copy.read_text()
    assert load_public(copy).machines == cluster.machines
    copy.write_text("{}")
    with pytest.raises(ConfigError, match="run practicum apply again"):
        load_public(copy)


# (text of GOOD, what replaces it, the sentence)
WRONG = [
    ('name = "class"', 'nam = "class"', "cluster.toml:2: cluster.nam: no such key (did you mean "
     "name?); valid here: name, timezone"),
    ('name = "class"', 'nam = "class"', "cluster.toml:1: cluster.name: this key is missing"),
    ('name = "class"', 'name = "Class"', "cluster.toml:2: cluster.name: must be a name: a "
     'lower-case letter, then up to 30 of a-z 0-9 _ -, not "Class"'),
    ("cpus = 4", 'cpus = "4"', 'cluster.toml:17: nodes[1].cpus: must be a whole number, not "4"'),
    ("cpus = 4", "cpus = 0", "cluster.toml:17: nodes[1].cpus: must be at least 1, not 0"),
    ("cpus = 4", "cpus = true", "cluster.toml:17: nodes[1].cpus: must be a whole number, not true"),
    ('"student"', '"students"', "cluster.toml:23: groups[0].role: no such value (did you mean "
     "student?); valid here: student, instructor, admin, other"),
    ('["compute"]', '["computer"]', "cluster.toml:16: nodes[1].roles[0]: no such value (did you "
     "mean compute?); valid here: login, controller, storage, database, compute"),
    ('["compute"]', '"compute"', "cluster.toml:16: nodes[1].roles: must be a list in [ ], not "
     '"compute"'),
    ('["compute"]', "[]", "cluster.toml:16: nodes[1].roles: needs at least 1 of them"),
    ('subnet = "10.1.0.0/24"', 'subnet = "10.1.0.5/24"', "cluster.toml:5: network.subnet: "
     "10.1.0.5/24 has host bits set"),
    ('"10.1.0.1"', '"10.2.0.1"', "cluster.toml:6: network.gateway: gateway 10.2.0.1 is not in "
     "10.1.0.0/24"),
    ('name = "class"', "name = 2026-01-01", 'cluster.toml:2: cluster.name: must be text in quotes'),
    ('name = "class"', 'name = "class', "cluster.toml:2: not TOML: "),
    ('[cluster]\nname = "class"\n', "", "cluster.toml:1: cluster: this key is missing"),
    # names and addresses
    ("node[01-02]", "node[02-01]", "cluster.toml:14: nodes[1].name: '02-01' in 'node[02-01]' is "
     "not a range like 01-08"),
    ("node[01-02]", "all", "cluster.toml:14: nodes[1].name: 'all' cannot be a host name"),
    ('"10.1.0.11"', '"10.1.0"', "cluster.toml:15: nodes[1].address: must be an address like "
     "10.1.0.10, not '10.1.0'"),
    ('"10.1.0.11"', '"10.1.0.10"', "cluster.toml:15: nodes[1].address: 10.1.0.10 (node01) is also "
     "the address of login: give each node its own"),
    ('"10.1.0.11"', '"10.1.0.254"', "nodes[1].address: 10.1.0.255 (node02) is the broadcast "
     "address"),
    ('"10.1.0.11"', '"10.1.0.0"', "10.1.0.0 (node01) is the network's own address"),
    ('"10.1.0.10"', '"10.1.0.1"', "10.1.0.1 (login) is the gateway's address"),
    ('"10.1.0.11"', '"10.1.1.11"', "cluster.toml:15: nodes[1].address: 10.1.1.11 (node01) is not "
     "in 10.1.0.0/24"),
    ("node[01-02]", "login", "login is already in nodes[0]: every machine is listed once"),
    # roles
    ('"controller", ', "", 'nodes: no node has the role controller: add "controller" to the '
     "roles of one"),
    ('"login", ', "", "nodes: no node has the role login"),
    ('"database", ', "", "nodes: no node has the role database"),
    ('["compute"]', '["storage"]', "nodes: no node has the role compute"),
    ('["compute"]', '["compute", "controller"]', "cluster.toml:16: nodes[1].roles: only one node "
     "can be the controller, and there are login, node01, node02"),
    ('["compute"]', '["compute", "compute"]', "nodes[1].roles: a role is listed twice"),
    # accounts
    ('name = "ada"', 'name = "slurm"', "cluster.toml:26: users[0].name: slurm belongs to "
     "the system"),
    ('name = "students"', 'name = "sudo"', "groups[0].name: sudo belongs to the system"),
    ('groups = ["students"]', 'groups = ["student"]', "cluster.toml:28: users[0].groups[0]: there "
     "is no group student (did you mean students?); there are: students"),
    ("uid = 3000", "uid = 0", "users[0].uid: must be at least 1000, not 0"),
    # partitions and profiles
    ('nodes = "ALL"', 'nodes = "node03"', "cluster.toml:32: partitions[0].nodes: there is no node "
     "node03 (did you mean node02?); there are: node01, node02"),
    ('nodes = "ALL"', 'nodes = "login"', "login runs no jobs: add \"compute\" to its roles"),
    ("default = true", "default = false", "partitions: none has default = true"),
    ("default = true", 'default = true\nmax_time = "00:30:00"', "partitions[0].default_time: "
     "01:00:00 is more than this partition's max_time, 00:30:00"),
    ("default = true", 'default = true\nmax_time = "1 day"', "max_time: must be a time like "
     "04:00:00"),
    ('partition = "batch"', 'partition = "btach"', "cluster.toml:38: profiles[0].partition: there "
     "is no partition btach (did you mean batch?); there are: batch"),
    ('partition = "batch"', 'partition = "batch"\ncpus = 5', "cluster.toml:39: profiles[0].cpus: "
     "5 cpus are more than any node of partition batch has (4)"),
    ('partition = "batch"', 'partition = "batch"\nmemory_mb = 4001', "profiles[0].memory_mb: "
     "4001 MB are more than any node of partition batch has (4000)"),
    ('partition = "batch"', 'partition = "batch"\ntime = "2-00:00:00"', "profiles[0].time: "
     "2-00:00:00 is more than 1-00:00:00, the max_time of partition batch"),
    ('partition = "batch"', 'partition = "batch"\ngroups = ["staff"]', "profiles[0].groups[0]: "
     "there is no group staff"),
    ("default = true", "default = true\nmax_cpus_per_node = 1\n\n[[profiles]]\nname = \"two\"\n"
     'title = "Two"\npartition = "batch"\ncpus = 2', "profiles[0].cpus: 2 is more than "
     "max_cpus_per_node (1) of partition batch"),
    ('name = "python3"', 'name = "server"', "kernels[0].name: server is practicum's own"),
    ('name = "python3"', 'name = "python"', "kernels[0].name: Jupyter reads python as python3"),
    ('["numpy"]', '["numpy; import os"]', "kernels[0].packages[0]: must be a package like numpy"),
    # more tables
    ("[[kernels]]", '[[partitions]]\nname = "batch"\nnodes = "ALL"\n\n[[kernels]]',
     "cluster.toml:41: partitions[1].name: the name batch is taken by partitions[0]"),
    ("[[kernels]]", '[[partitions]]\nname = "two"\nnodes = "ALL"\ndefault = true\n\n[[kernels]]',
     "partitions[1].default: batch is the default already: only one can be"),
    ("[[kernels]]", '[[users]]\nname = "ben"\nuid = 3000\ngroups = ["students"]\n\n[[kernels]]',
     "cluster.toml:42: users[1].uid: uid 3000 is taken by users[0]: choose another"),
    ("[[kernels]]", "[hub]\nport = 6817\n\n[[kernels]]",
     "cluster.toml:41: hub.port: port 6817 is also slurm.controller_port: choose another"),
    ("[[kernels]]", "[hub]\nsession_ports = [3000, 2000]\n\n[[kernels]]",
     "hub.session_ports: must be [lowest, highest], not [3000, 2000]"),
    ("[[kernels]]", "[hub]\nsession_ports = [8000, 9000]\n\n[[kernels]]",
     "hub.session_ports: 8000-9000 holds 8081, which is hub.api_port: move one"),
    ("[[kernels]]", '[storage]\nhome = "/srv"\nshared = "/srv"\n\n[[kernels]]',
     "storage.shared: must be another folder than home"),
    ("[[kernels]]", '[storage]\nshared = "/srv/../etc"\n\n[[kernels]]',
     "storage.shared: must be a plain folder like /nfs"),
    ("[[kernels]]", '[sssh]\nuser = "root"\n\n[[kernels]]', "sssh: no such key (did you "
     "mean ssh?)"),
    ("\n[network]", 'timezone = "Europe/Berln"\n[network]', "cluster.toml:3: cluster.timezone: "
     "there is no time zone Europe/Berln (did you mean Europe/Berlin?)"),
]  # fmt: skip


@pytest.mark.parametrize("old, new, sentence", WRONG, ids=[row[2][-60:] for row in WRONG])
def test_one_sentence_says_what_would_be_right(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    assert old in GOOD
    assert sentence in refused(tmp_path, GOOD.replace(old, new, 1))


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("uid = 3000", "uid = 1").replace("cpus = 4", "cpus = 0")
    told = refused(tmp_path, text).splitlines()
    assert [line.split(":")[2].strip() for line in told] == ["nodes[1].cpus", "users[0].uid"]
    many = GOOD + "".join(f'[[users]]\nname = "u{i}"\nuid = 1\ngroups = ["x"]\n' for i in range(30))
    assert refused(tmp_path, many).splitlines()[-1] == "... and 18 more"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="practicum init writes one"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    path = tmp_path / "latin.toml"
    path.write_bytes(b"[cluster]\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin.toml:2: not UTF-8 text"):
        load(path)
    path.write_bytes(b"#" * 5_000_000)
    with pytest.raises(ConfigError, match="is it the right file"):
        load(path)
    path.write_text("a = " + "[" * 5000)
    with pytest.raises(ConfigError):
        load(path)


@settings(max_examples=200)
@given(st.text(alphabet="[]{}=\"'#.,\n\\ab1- \t", max_size=60))
def test_no_text_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load(path)


def test_lines_of_every_form_of_key() -> None:
    text = '''\
# a comment with [brackets] and = signs
title = """two
lines with "quotes" and ] }"""
[a."b.c"]
d.e = [ # first
  "x",
  [1, 2], { f = 1, g.h = '#' },
]

[[n]]
k = \'\'\'
'' ] \'\'\'
[[n]]
[n.sub]
z = 1979-05-27T07:32:00Z
[[n.m]]
q = """\\"""""
[[n.m]]
last = 1'''
    found = Lines(text).found
    expected: dict[Place, int] = {
        ("title",): 2, ("a", "b.c"): 4, ("a", "b.c", "d", "e"): 5, ("a", "b.c", "d", "e", 0): 6,
        ("a", "b.c", "d", "e", 1, 1): 7, ("a", "b.c", "d", "e", 2, "g", "h"): 7, ("n", 0): 10,
        ("n", 0, "k"): 11, ("n", 1): 13, ("n", 1, "sub", "z"): 15, ("n", 1, "m", 0, "q"): 17,
        ("n", 1, "m", 1, "last"): 19,
    }  # fmt: skip
    assert {place: found.get(place) for place in expected} == expected


def places(value: object, here: Place = ()) -> set[Place]:
    """Every key and element of a parsed TOML document."""
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    found = {here} if here else set()
    for key, item in inner:
        found |= places(item, (*here, key))
    return found


KEY = st.sampled_from(["a", "b", '"c.d"', "'e f'", "g.h", "i-1", '"\\u0041"'])
SCALAR = st.sampled_from(
    ["1", "true", '"#]}"', "'\\'", '"""\n"x"\n"""', "'''\n''\n'''", "1.5e3", "07:32:00", '"\\""']
)
BLANK = st.sampled_from(["", " ", "\n", " # ] }\n", "\r\n"])


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.integers(0, 3)) if depth else 0
    if kind == 2:
        items = draw(st.lists(values(depth=depth - 1), max_size=3))
        blank = draw(BLANK)
        return "[" + ",".join(f"{blank}{item}{blank}" for item in items) + blank + "]"
    if kind == 3:
        pairs = draw(st.lists(st.tuples(KEY, values(depth=depth - 1)), max_size=2))
        return "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }"
    return draw(SCALAR)


@st.composite
def documents(draw: st.DrawFn) -> str:
    rows: list[str] = []
    for _ in range(draw(st.integers(0, 6))):
        kind, key = draw(st.integers(0, 3)), draw(KEY)
        header = {0: f"[[{key}]]", 1: f"[ {key} ]"}.get(kind)
        rows.append(header or f"{key} = {draw(values())}{draw(BLANK)}")
    return draw(st.sampled_from(["\n", "\r\n"])).join(rows)


@settings(max_examples=300)
@given(documents())
def test_every_key_that_tomllib_finds_has_a_line(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a key twice, and the like: load tells of it before lines matter
    found = Lines(text).found
    assert set(found) == places(data)
    rows = text.split("\n")
    for place, line in found.items():
        name = next(part for part in reversed(place) if isinstance(part, str))
        if isinstance(place[-1], str):
            assert re.escape(name)[0] in rows[line - 1] or name == "A", (dotted(place), line)
