"""The lab's pure parts: sources, settings, rules, command lines, checks."""

from __future__ import annotations

import ipaddress
import shlex
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PracticumError, UsageError
from cluster.load import load
from provisioning.lab import access, checks, config, mirrors, network, settings, state, system
from provisioning.lab.model import Account, LabNode, check_name
from provisioning.lab.state import State

ONE_LINE = """
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/x.gpg] http://mirror.example/debian/ bookworm main
deb-src http://source.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb cdrom:[Debian]/ bookworm main
"""
DEB822 = """
Types: deb deb-src
URIs: http://mirror.example/debian https://second.example/debian
Suites: bookworm

Types: deb
# a comment
URIs: http://off.example/debian
Suites: bookworm
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
"""


def lab_state(nodes: int = 3, hub_port: int | None = None) -> State:
    subnet = ipaddress.IPv4Network("10.99.7.0/24")
    members = tuple(
        LabNode(name, network.address(subnet, index), roles)
        for index, (name, roles) in enumerate(config.node_plan(nodes))
    )
    accounts = tuple(Account(name, "secret word", role) for name, role in config.ACCOUNTS)
    return State("unit", "debian12", str(subnet), hub_port, members, accounts)


def test_mirrors_of_both_forms_of_sources() -> None:
    assert mirrors.parse_sources(ONE_LINE) == [
        "http://mirror.example/debian",
        "http://mirror.example/debian-security",
    ]
    assert mirrors.parse_sources(DEB822) == [
        "http://mirror.example/debian",
        "https://second.example/debian",
    ]


@given(st.text())
def test_any_text_is_read_as_sources(text: str) -> None:
    assert all(uri.startswith(("http://", "https://")) for uri in mirrors.parse_sources(text))


def test_own_mirror_first_then_beside_it_then_the_official_one() -> None:
    sources = ["http://mirror.example/x/debian", "http://apt.example/cloud"]
    assert mirrors.candidates("debian", sources, "x86_64") == [
        "http://mirror.example/x/debian",
        mirrors.DEBIAN,
    ]
    assert mirrors.candidates("ubuntu", sources, "x86_64") == [
        "http://mirror.example/x/ubuntu",
        mirrors.UBUNTU,
    ]
    assert mirrors.candidates("ubuntu", [], "aarch64") == [mirrors.UBUNTU_PORTS]


def test_no_registry_names_every_one_that_was_asked() -> None:
    with pytest.raises(PracticumError, match=r"http://127\.0\.0\.1:9/debian: .*refused") as caught:
        ask = mirrors.opener({})
        mirrors.first_answering(
            ["http://127.0.0.1:9/debian", "http://127.0.0.1:9/other"],
            "bookworm",
            lambda mirror, suite: mirrors.answers(ask, mirror, suite),
        )
    assert "http://127.0.0.1:9/other" in str(caught.value)


def test_pip_settings_without_this_machines_folders() -> None:
    texts = [
        "[global]\nindex-url = https://mirror.example/simple\nfind-links = /opt/wheels\n",
        "[global]\nextra-index-url = file:///opt/pypi https://more.example/simple\ntimeout = 60\n",
    ]
    assert settings.pip_conf(texts, {}, own_certificates=True).splitlines() == [
        "[global]",
        "index-url = https://mirror.example/simple",
        "extra-index-url = https://more.example/simple",
        "timeout = 60",
        f"cert = {settings.BUNDLE}",
    ]


def test_a_plain_machine_adds_nothing() -> None:
    assert settings.pip_conf([], {}, own_certificates=False) == "[global]\n"
    assert settings.npmrc(["fund=false\n//r.example/:_authToken=s3cret\n"], False) == ""
    assert settings.environment({}, False, "10.0.0.0/24") == 'LANG="C.UTF-8"\n'


def test_proxies_spare_the_lab_itself() -> None:
    text = settings.environment({"HTTPS_PROXY": "http://p:3128"}, False, "10.0.0.0/24")
    assert 'https_proxy="http://p:3128"' in text
    assert 'no_proxy="localhost,127.0.0.1,10.0.0.0/24"' in text


def test_rules_replace_themselves_and_forward_only_with_a_hub_port() -> None:
    subnet = ipaddress.IPv4Network("10.99.7.0/24")
    plain = network.rules("a-b", subnet, None)
    assert plain.splitlines()[:2] == ["table ip practicum_a_b", "delete table ip practicum_a_b"]
    assert "dnat" not in plain
    assert "dnat to 10.99.7.10:8000" in network.rules("a-b", subnet, (8088, "10.99.7.10", 8000))


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_arguments_survive_both_shells(argv: list[str]) -> None:
    [line] = access.remote(["x", *argv], "root")
    assert shlex.split(line) == ["x", *argv]
    [line] = access.remote(["x", *argv], "ada")
    outer = shlex.split(line)
    assert outer[:4] == ["runuser", "--login", "ada", "--command"]
    assert shlex.split(outer[4]) == ["x", *argv]


@given(st.text())
def test_a_labs_name_is_safe_wherever_it_goes(text: str) -> None:
    try:
        name = check_name(text)
    except UsageError:
        return
    assert len(network.bridge(name)) <= 15
    assert name.replace("-", "").isalnum()
    assert not name.endswith(("-", "\n"))


@pytest.mark.parametrize("count", [2, 3, 4, 12])
def test_the_labs_cluster_toml_is_valid(count: int, tmp_path) -> None:
    lab = lab_state(count)
    path = tmp_path / "cluster.toml"
    path.write_text(config.cluster_toml(lab))
    cluster = load(path)
    assert [(m.name, m.address) for m in cluster.machines] == [
        (n.name, n.address) for n in lab.nodes
    ]
    users = {user["name"] for user in tomllib.loads(path.read_text())["users"]}
    assert users == {account.name for account in lab.accounts}
    assert "secret word" not in path.read_text()


def test_state_survives_the_disk(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(system, "STATE", tmp_path)
    lab = lab_state(hub_port=8001)
    lab.save()
    assert state.read("unit") == lab
    assert state.names() == ["unit"]
    assert lab.info.hub_url == "http://127.0.0.1:8001"
    assert lab_state().info.hub_url == "http://10.99.7.10:8000"


def test_checks_name_the_remedy(tmp_path) -> None:
    with pytest.raises(PracticumError, match="needs Linux"):
        checks.require(platform="darwin")
    with pytest.raises(PracticumError, match="needs root"):
        checks.require(uid=1000)
    with pytest.raises(PracticumError, match=r"apt-get install systemd-container debootstrap"):
        checks.require(uid=0, path=str(tmp_path))


def test_a_tree_on_overlayfs_is_refused_with_a_way_out(monkeypatch, tmp_path) -> None:
    from provisioning.lab import nodes

    monkeypatch.setattr(nodes, "filesystem", lambda _path: "overlay")
    with pytest.raises(PracticumError, match="mount a local file system"):
        nodes.check_storage(tmp_path)
    assert system.filesystem(system.Path("/proc/self")) == "proc"


def test_remove_tree_never_goes_through_a_mount(tmp_path, monkeypatch) -> None:
    inside = tmp_path / "tree" / "proc"
    inside.mkdir(parents=True)
    monkeypatch.setattr(system, "mounts", lambda: [(inside, "proc", "rw")])
    with pytest.raises(PracticumError, match="cannot be unmounted"):
        system.remove_tree(tmp_path / "tree")
    assert inside.exists()
