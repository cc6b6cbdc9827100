"""What blkid says of a disk before it is formatted."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "provisioning/roles/files/storage_disk.py"
# blkid -p -o export of an empty partition (util-linux 2.38)
EMPTY = """\
DEVNAME=/dev/vdc1
PART_ENTRY_SCHEME=dos
PART_ENTRY_UUID=c0ffee01-01
PART_ENTRY_TYPE=0x83
PART_ENTRY_DISK=254:32
"""


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", []),
        (EMPTY, []),
        (f"{EMPTY}TYPE=ext4\nUSAGE=filesystem\n", ["TYPE=ext4", "USAGE=filesystem"]),
        ("DEVNAME=/dev/vdc\nPTUUID=c0ffee01\nPTTYPE=dos\n", ["PTUUID=c0ffee01", "PTTYPE=dos"]),
    ],
)
def test_an_empty_partition_is_empty_and_nothing_else_is(said: str, found: list[str]) -> None:
    content = runpy.run_path(str(SCRIPT))["content"]
    assert content(said) == found
