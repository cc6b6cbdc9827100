"""A version as an image: how it is made, which one a node mounts, when a kernel starts from it.
Mounted for real over NFS in tests/vm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.environments import FILES
from kernels.node import building, images, shelf
from kernels.node.request import Request

ARCH = os.uname().machine
needs_squashfs = pytest.mark.skipif(
    not Path(images.PROGRAM).exists(), reason="squashfs-tools is not installed"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    place = tmp_path / "envs/demo/3" / ARCH
    (place / "bin").mkdir(parents=True)
    python = place / "bin/python"
    python.write_text('#!/bin/sh\necho "$VIRTUAL_ENV"\n')
    python.chmod(0o755)
    return place


@needs_squashfs
def test_an_image_holds_the_tree(tree: Path, tmp_path: Path) -> None:
    size, why = images.make(tree)
    assert (size, why) == (images.of(tree).stat().st_size, "")
    out = tmp_path / "out"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", out, images.of(tree)], check=True, timeout=60)
    assert (out / "bin/python").read_text() == (tree / "bin/python").read_text()
    assert sorted(path.name for path in tree.parent.iterdir()) == [ARCH, f"{ARCH}.squashfs"]


@pytest.mark.parametrize("program", ["/nonexistent/mksquashfs", "/bin/false"])
def test_where_none_can_be_made_the_version_is_whole(
    tree: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(images, "PROGRAM", program)
    size, why = images.make(tree)
    assert size == 0
    assert why
    assert [path.name for path in tree.parent.iterdir()] == [ARCH]


def test_what_gets_no_image(tree: Path) -> None:
    for more in ({"language": "conda"}, {"language": "r"}, {"group": "course-x"}):
        request = Request(name="demo", **more)  # type: ignore[arg-type]
        assert building._images(tree.parent, request, [ARCH], print) == {}


def program(tmp_path: Path, key: str) -> subprocess.CompletedProcess[str]:
    """autofs's question."""
    conf = tmp_path / "conf"
    conf.write_text(f"ENVS={tmp_path / 'envs'}\n")
    text = (FILES / "kernel-images").read_text()
    assert "/etc/practicum/kernel-images.conf" in text
    script = text.replace("/etc/practicum/kernel-images.conf", str(conf))
    return subprocess.run(
        ["sh", "-c", script, "kernel-images", key], capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="an image is root's file")
def test_which_image_a_node_mounts(tree: Path, tmp_path: Path) -> None:
    image = images.of(tree)
    assert program(tmp_path, "demo@3").returncode == 1
    image.write_bytes(b"x")
    image.chmod(0o644)
    said = program(tmp_path, "demo@3")
    assert said.stdout == f"-fstype=squashfs,loop,ro,nosuid,nodev :{image}\n"
    image.chmod(0o666)
    assert program(tmp_path, "demo@3").returncode == 1
    image.chmod(0o644)
    os.chown(image, 65534, 65534)  # a student's
    assert program(tmp_path, "demo@3").returncode == 1
    image.unlink()
    image.symlink_to("/etc/passwd")
    assert program(tmp_path, "demo@3").returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="an image is root's file")
def test_what_not_everybody_may_see_is_not_mounted_for_everybody(
    tree: Path, tmp_path: Path
) -> None:
    images.of(tree).write_bytes(b"x")
    images.of(tree).chmod(0o644)
    kernel = tree.parent.parent
    kernel.chmod(0o750)  # it belongs to a group by now
    assert program(tmp_path, "demo@3").returncode == 1
    kernel.chmod(0o755)
    assert program(tmp_path, "demo@3").returncode == 0
    for folder in (kernel, tree.parent):
        away = folder.rename(folder.with_name("away"))
        folder.symlink_to(away)
        assert program(tmp_path, "demo@3").returncode == 1
        folder.unlink()
        away.rename(folder)
    assert program(tmp_path, "demo@3").returncode == 0


HOSTILE = ["", "demo", "demo@", "@3", "demo@3@3", "demo@3a", "../demo@3", "demo@3/..", "demo@3 ",
           "a b@3", "$(id)@3", "demo@3\n", "demo@../3", "*@3", "demo@*"]  # fmt: skip


@pytest.mark.parametrize("key", HOSTILE)
def test_no_other_word_is_a_place(tree: Path, tmp_path: Path, key: str) -> None:
    images.of(tree).write_bytes(b"x")
    images.of(tree).chmod(0o644)
    said = program(tmp_path, key)
    assert (said.returncode, said.stdout, said.stderr) == (1, "", "")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
def test_whatever_is_asked_for_nothing_is_run(key: str) -> None:
    place = Path("/nonexistent")
    script = (FILES / "kernel-images").read_text().replace("/etc/practicum/kernel-images.conf",
                                                           "/dev/null")  # fmt: skip
    said = subprocess.run(
        ["sh", "-c", f"ENVS={place}\n{script}", "kernel-images", key], capture_output=True,
        text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stdout, said.stderr) == (1, "", "")


def test_a_kernel_starts_from_its_image_where_there_is_one(tree: Path, tmp_path: Path) -> None:
    root = tree.parent.parent
    (tree.parent / shelf.START).write_text('{"argv": ["{prefix}/bin/python"], "language": "x"}\n')
    (tree.parent / shelf.LEASE).touch()
    (root / "current").symlink_to("3")
    mounts = tmp_path / "mounts"
    starter = tmp_path / "kernel-start"
    text = (FILES / "kernel-start").read_text()
    assert '"/run/practicum-kernels"' in text
    starter.write_text(text.replace('"/run/practicum-kernels"', repr(str(mounts))))

    def started() -> str:
        argv = [sys.executable, "-IS", str(starter), str(root.parent), "demo", "--", "file"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True,
                              env={"PATH": "/usr/bin:/bin"})  # fmt: skip
        return done.stdout.strip()

    (tree / shelf.STAMP).touch()
    os.utime(tree / shelf.STAMP, (1_800_000_000.75, 1_800_000_000.75))
    assert started() == str(tree)
    image = mounts / "demo@3"
    (image / "bin").mkdir(parents=True)
    (image / "bin/python").symlink_to(tree / "bin/python")
    (image / shelf.STAMP).touch()
    os.utime(image / shelf.STAMP, (1_800_000_000, 1_800_000_000))
    assert started() == str(tree)  # no image was published: what is there is not it
    images.of(tree).touch()
    assert started() == str(image)
    os.utime(image / shelf.STAMP, (1_790_000_000, 1_790_000_000))
    assert started() == str(tree)  # of a kernel that had this name before
    (image / shelf.STAMP).unlink()  # not mounted
    assert started() == str(tree)
