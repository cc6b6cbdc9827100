"""The hub's role: what it declares, and that the tools that read its files accept them."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hub_sample import SECRETS, context, sample

from hub import paths, role, units
from provisioning.resources import Command, File, Group, Resource, Service, User

needs_visudo = pytest.mark.skipif(shutil.which("visudo") is None, reason="sudo is not installed")
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def files(resources: list[Resource]) -> dict[str, File]:
    return {item.path: item for item in resources if isinstance(item, File)}


def test_the_hub_lives_on_the_first_login_node_only() -> None:
    declared = role.ROLES[-1]
    cluster = sample()
    places = [node.name for node in cluster.machines if declared.where(cluster, node)]
    assert places == ["login"]


def test_every_resource_is_declared_once() -> None:
    keys: dict[str, Resource] = {}
    for item in role.hub(context()):
        assert keys.setdefault(item.key, item) == item


def test_account_has_one_id_everywhere_and_reads_shadow_only_on_the_login_node() -> None:
    login, node = role.account(context()), role.account(context("node01"))
    assert [item.gid for item in (*login, *node) if isinstance(item, Group)] == [911, 911]
    users = [item for item in (*login, *node) if isinstance(item, User)]
    assert [user.uid for user in users] == [911, 911]
    assert [user.groups for user in users] == [("shadow",), ()]


def test_secrets_are_roots_alone_and_in_no_other_file() -> None:
    declared = files(role.hub(context()))
    secret = {path: item for path, item in declared.items() if item.secret}
    assert set(secret) == {f"{paths.SECRETS}/{name}" for name in SECRETS}
    assert {(item.mode, item.owner) for item in secret.values()} == {(0o600, "root")}
    for path, item in declared.items():
        for value in SECRETS.values():
            assert (path in secret) or value.encode() not in item.content


def test_services_come_last_and_after_what_they_read() -> None:
    resources = role.hub(context())
    assert [item.service for item in resources[-2:] if isinstance(item, Service)] == [
        "practicum-proxy",
        "practicum-hub",
    ]
    assert not any(isinstance(item, Service) for item in resources[:-2])


def test_a_new_wheel_is_a_new_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def wanted() -> tuple[str, ...]:
        commands = [item for item in role.application(context()) if isinstance(item, Command)]
        return next(item.run for item in commands if item.id == "environment-hub")

    before = wanted()
    assert before == wanted()
    monkeypatch.setattr(role.wheel, "build", lambda: b"another")
    assert wanted() != before


@needs_visudo
@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("groups", [True, False])
def test_sudo_rules_are_accepted(tmp_path: Path, client: bool, groups: bool) -> None:
    cluster = sample() if groups else sample(groups=[], users=[])
    path = tmp_path / "rules"
    path.write_text(units.sudoers(cluster, slurm_environment=client))
    path.chmod(stat.S_IRUSR | stat.S_IRGRP)
    done = subprocess.run(["visudo", "-cf", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()


def test_sudo_rules_allow_two_commands_and_no_admin() -> None:
    text = units.sudoers(sample(), slurm_environment=False)
    assert "Runas_Alias PRACTICUM_PEOPLE = %students, %instructors, !%admins, !#0" in text
    allowed = text.partition("PRACTICUM_JOBS = ")[2].splitlines()[0]
    assert allowed == "/usr/bin/sbatch --parsable, /usr/bin/scancel ^[0-9]+$"
    assert "NOSETENV" in text
    assert ": ALL" not in text


def test_rules_are_validated_before_they_count() -> None:
    rules = files(role.rights(context()))["/etc/sudoers.d/practicum-hub"]
    assert rules.mode == 0o440
    assert rules.validate == ("visudo", "-cf", "{}")


@needs_systemd
@pytest.mark.parametrize("tls", [True, False])
def test_units_are_accepted(tmp_path: Path, tls: bool) -> None:
    """systemd-analyze also wants the programs to be there, so they are put under other names."""
    cluster = sample(hub={"internal_tls": tls})
    texts = {
        "practicum-hub": units.hub_unit(cluster),
        "practicum-proxy": units.proxy_unit(cluster),
    }
    assert ("https://" in texts["practicum-proxy"]) is tls
    for name, text in texts.items():
        known = text.replace(units.PROXY_START, "/bin/true")
        known = known.replace(f"{paths.BIN}/python", "/bin/true")
        (tmp_path / f"{name}.service").write_text(known)
    units_there = [str(tmp_path / f"{name}.service") for name in texts]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *units_there],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "practicum-" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_hub_unit_does_not_break_sudo() -> None:
    """Each of these implies no_new_privs for a unit with User=, and sudo then refuses."""
    text = units.hub_unit(sample())
    settings = {line.partition("=")[0] for line in text.splitlines() if "=" in line}
    assert not settings & {
        "NoNewPrivileges",
        "SystemCallFilter",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictSUIDSGID",
        "PrivateDevices",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectClock",
        "ProtectHostname",
        "MemoryDenyWriteExecute",
        "RestrictRealtime",
        "LockPersonality",
        "SystemCallArchitectures",
        "DynamicUser",
    }
    assert "UMask=0077" in text


def test_port_below_1024_gets_its_one_capability() -> None:
    assert "CAP_NET_BIND_SERVICE" in units.proxy_unit(sample(hub={"port": 80}))
    assert "Capabilities" not in units.proxy_unit(sample())


def test_no_registry_and_no_path_of_a_builder_in_the_pins() -> None:
    text = (paths.FILES / "requirements.txt").read_text()
    assert "://" not in text
    assert "file:" not in text
    pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert pinned
    assert all("==" in line for line in pinned)
    assert any(line.startswith("jupyterhub==6.1.1") for line in pinned)
