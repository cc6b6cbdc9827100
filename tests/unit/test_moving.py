"""What practicum knows of a node that has moved."""

from __future__ import annotations

from pathlib import Path

import paramiko
import pytest
from paramiko.hostkeys import HostKeys

from provisioning import moving
from provisioning.ssh import SSHTarget

OLD, NEW = "10.0.0.11", "10.0.0.60"


def target(known_hosts: Path, port: int = 22) -> SSHTarget:
    return SSHTarget(
        name="node01", address=NEW, port=port, user="root", key=Path("key"), known_hosts=known_hosts
    )


@pytest.mark.parametrize("port", [22, 2222])
@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_host_key_is_known_under_the_new_address(
    tmp_path: Path, port: int, hashed: bool, end: str
) -> None:
    """Debian and Ubuntu hash the names in a user's own file."""
    path = tmp_path / "known_hosts"
    was, now = (one if port == 22 else f"[{one}]:{port}" for one in (OLD, NEW))
    key = paramiko.ECDSAKey.generate()
    name = HostKeys.hash_host(was) if hashed else f"{was},other"
    path.write_text(f"# mine\n{name} {key.get_name()} {key.get_base64()} a comment{end}")
    assert moving._learn(path, OLD, target(path, port)) == ""
    assert HostKeys(str(path)).check(now, key)
    once = path.read_text()
    assert moving._learn(path, OLD, target(path, port)) == ""
    assert path.read_text() == once


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    assert moving._learn(path, OLD, target(path)) == (
        f"the host key of {NEW} cannot be added to {path}: No such file or directory"
    )
