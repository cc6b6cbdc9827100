"""cluster.toml written anew: machines leave it, and everything else stays as it was written."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.edit import without_nodes
from cluster.errors import ConfigError
from cluster.hostlist import expand
from cluster.load import load
from cluster.rewrite import rewrite

TEXT = """\
# Ours, since 2026
[cluster]
name = "class"

[network]
subnet = "10.42.0.0/24"   # behind the cupboard

[[nodes]]
name = "login"
address = "10.42.0.10"
roles = ["login", "controller", "database", "storage"]

# the boards on the shelf
[[nodes]]
name = "node[01-08]"
address = "10.42.0.11"
roles = ["compute"]
# memory_mb = 8000

[[partitions]]
name = "batch"
nodes = "node[01-04]"  # the fast ones
default = true

[[partitions]]
name = "every"
nodes = "ALL"
"""


def machines(text: str, folder: Path) -> dict[str, str]:
    path = folder / "cluster.toml"
    path.write_text(text)
    return {node.name: node.address for node in load(path).machines}


def test_the_last_of_a_list(tmp_path: Path) -> None:
    new = without_nodes(TEXT, ["node08"])
    assert new == TEXT.replace("node[01-08]", "node[01-07]")
    assert len(machines(new, tmp_path)) == 8


def test_one_in_the_middle_keeps_everybodys_address(tmp_path: Path) -> None:
    new = without_nodes(TEXT, ["node03"])
    before, after = machines(TEXT, tmp_path), machines(new, tmp_path)
    assert after == {name: where for name, where in before.items() if name != "node03"}
    assert 'nodes = "node[01-02,04]"  # the fast ones' in new
    for comment in ("# Ours, since 2026", "# behind the cupboard", "# the boards on the shelf"):
        assert comment in new


def test_a_partition_is_not_left_empty() -> None:
    with pytest.raises(ValueError, match="partition batch would have no nodes left"):
        without_nodes(TEXT, ["node01", "node02", "node03", "node04"])


@given(st.sets(st.sampled_from(expand("node[02-08]"))))
def test_any_machines(gone: set[str]) -> None:
    new = tomllib.loads(without_nodes(TEXT, gone))
    left = [name for entry in new["nodes"] for name in expand(entry["name"])]
    assert sorted(left) == sorted({"login", *expand("node[01-08]")} - gone)
    for entry in new["nodes"][1:]:
        assert entry["address"] == f"10.42.0.{10 + int(expand(entry['name'])[0][4:])}"
    assert without_nodes(TEXT, []) == TEXT


def test_only_what_would_be_accepted_is_written(tmp_path: Path) -> None:
    """A refused text names the file that was to be written, and leaves it as it was."""
    file = tmp_path / "cluster.toml"
    file.write_text(TEXT)
    file.chmod(0o640)
    os.chown(file, 1234, 1235)
    wrong = TEXT.replace('roles = ["compute"]', 'roles = ["compote"]')
    with pytest.raises(ConfigError, match="did you mean compute") as refused:
        rewrite(file, wrong)
    assert str(refused.value).startswith(f"{file}:"), refused.value
    assert file.read_text() == TEXT and list(tmp_path.iterdir()) == [file]
    rewrite(file, TEXT + "# more\n")
    assert file.read_text() == TEXT + "# more\n"
    seen = file.stat()
    assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o777) == (1234, 1235, 0o640)
    assert list(tmp_path.iterdir()) == [file]
