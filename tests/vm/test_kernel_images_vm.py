"""Kernels' versions as images over real NFS: `head` serves /nfs, `node01` mounts a version's image
when a kernel first asks for it. What is there instead when one is missing, broken or not root's;
what becomes of it when its version goes.

Two kernels: `class` is an environment with ipykernel and numpy, built by this host's processor;
`quick` starts in a second, says where it runs from, and answers lines on its standard input.
"""

from __future__ import annotations

import json
import platform
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from vmkit import described
from vmkit.described import DATA_DISK
from vmkit.use import Vms

from kernels.node import shelf
from kernels.role import ROOM
from provisioning.lab import tree as trees

pytestmark = pytest.mark.vm

ENVS, MOUNTS = "/nfs/envs", "/run/practicum-kernels"
ARCH = platform.machine()
START = "/usr/local/lib/practicum/kernel-start"
SECONDS = 900  # an emulated processor's patience
SEEN = 180  # until an NFS client sees what changed on the server (nfs(5): a minute at most)

# What the login node does when build jobs have ended (kernels/node/building.py)
PUBLISH = f"""
import json, sys, time
from pathlib import Path
sys.path.insert(0, "{ROOM}")
from kernels.node import building, present, shelf
from kernels.node.request import Request
envs, request, version = Path("{ENVS}"), Request(name=sys.argv[1], keep=1), int(sys.argv[2])
root = envs / request.name
place = root / str(version)
(place / ".work-{ARCH}").mkdir()
(place / "request.json").write_text(request.text())
fact = {{"python": "3", "tool": "uv", "node": "head", "started": 0, "seconds": 0}}
with shelf.changing(root):
    found = building._finish(envs, request, version, {{"{ARCH}": fact}}, time.time(), "", print)
    shelf.put_link(root, version)
    shelf.open_to(root, "")
    present.show(envs, request, version)
    print(json.dumps([found["image_bytes"], shelf.collect(root, 1)]))
"""
# Says where it is, then answers expressions.
QUICK = """
import sys, which
print(sys.prefix, which.VALUE, flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""
# A notebook's side of a kernel: cells as JSON on standard input.
NOTEBOOK = f"""
import json, sys
sys.path.insert(0, "{ROOM}")
from jupyter_client.manager import start_new_kernel
from kernels.node import trial
trial.CELL_SECONDS = {SECONDS}
manager, client = start_new_kernel(startup_timeout={SECONDS}, kernel_name=sys.argv[1])
try:
    print("started", flush=True)
    for line in sys.stdin:
        print(json.dumps(trial.cell(client, json.loads(line))), flush=True)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


@pytest.fixture(scope="module")
def served(cluster_vms: Vms) -> Iterator[Vms]:
    """The pair with its own file server; afterwards it is as before, with an image mounted up to
    then."""
    vms = cluster_vms
    before = vms.toml.read_text()
    with vms.homes_away():
        vms.empty_disk()
        vms.apply(described.served, format_=DATA_DISK)
        vms.check_on("head", ["mkdir", "-p", f"{ENVS}/jupyter/kernels"])
        yield vms
        for name in ("class@1", "quick@1", "quick@4"):
            vms.run_on("node01", ["ls", f"{MOUNTS}/{name}"])
        mounted = images(vms)
        vms.apply(lambda _text: before)
        assert mounted, "no image was mounted when the file server went"
        assert images(vms) == {}


@pytest.fixture(scope="module")
def class_(served: Vms) -> Vms:
    """The kernel `class`, version 1."""
    uv = trees.ROOT / ".venv/bin/uv"
    place = f"{ENVS}/class/1/{ARCH}"
    with tempfile.TemporaryDirectory(prefix="practicum-class-") as name:
        folder = Path(name)
        python = folder / "made/bin/python"
        for words in (
            [uv, "venv", "--quiet", "--python", "/usr/bin/python3", folder / "made"],
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python,
             "ipykernel", "numpy"],
            ["tar", "-C", folder / "made", "-cf", folder / "made.tar", "."],
        ):  # fmt: skip
            subprocess.run(words, check=True, timeout=SECONDS)
        served.check_on("head", ["mkdir", "-p", place])
        with (folder / "made.tar").open("rb") as stream:
            words = served.ssh_command("head", ["tar", "-C", place, "-xf", "-"])
            subprocess.run(words, stdin=stream, timeout=SECONDS, check=True)
    publish(served, "class", 1)
    return served


@pytest.fixture
def quick(served: Vms) -> Iterator[Vms]:
    """The kernel `quick`, version 1, as new."""
    served.run_on("head", ["rm", "-rf", f"{ENVS}/quick"])
    prune(served, "quick@")
    make_quick(served, 1, "first")
    yield served
    served.check_on("node01", ["systemctl", "restart", "autofs"])


def make_quick(vms: Vms, version: int, value: str) -> list[int]:
    """Make that version live; the versions that were collected."""
    place = f"{ENVS}/quick/{version}"
    vms.check_on("head", ["mkdir", "-p", place])
    vms.check_on("head", ["python3", "-m", "venv", "--without-pip", f"{place}/{ARCH}"])
    packages = f"{place}/{ARCH}/lib/python3*/site-packages"
    vms.check_on("head", ["sh", "-c", f"cat > $(echo {packages})/which.py"],
                 input=f"VALUE = {value!r}\n")  # fmt: skip
    # more than a page of it, and not read before it is asked for
    vms.check_on("head", ["sh", "-c", f"cat > $(echo {packages})/later.py"],
                 input="#" * 300_000 + f"\nVALUE = {value!r}\n")  # fmt: skip
    gone = publish(vms, "quick", version)
    start = {"argv": ["{prefix}/bin/python", "-c", QUICK], "language": "python"}
    vms.check_on("head", ["tee", f"{place}/{shelf.START}"], input=json.dumps(start))
    # node01 may remember another folder of that name
    vms.until("node01", ["cat", f"{place}/{shelf.START}"], lambda text: "which" in text, SEEN)
    vms.until("node01", ["readlink", f"{ENVS}/quick/current"],
              lambda text: text.strip() == str(version), SEEN)  # fmt: skip
    return gone


def publish(vms: Vms, name: str, version: int) -> list[int]:
    vms.check_on("head", ["touch", f"{ENVS}/{name}/{version}/{ARCH}/{shelf.STAMP}"])
    said = vms.check_on(
        "head", ["python3", "-I", "-c", PUBLISH, name, str(version)], timeout=SECONDS
    )
    sizes, gone = json.loads(said.splitlines()[-1])
    assert sizes[ARCH] > 4096, said
    print(f"{name} {version}: image of {sizes[ARCH] / 1e6:.1f} MB")
    return list(gone)


def images(vms: Vms) -> dict[str, str]:
    """What is mounted on node01: NAME@VERSION → options."""
    listed = vms.run_on("node01", ["findmnt", "-rn", "-t", "squashfs", "-o", "TARGET,OPTIONS"])
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {row[0].removeprefix(f"{MOUNTS}/"): row[1] for row in rows}


def prune(vms: Vms, name: str) -> None:
    """What autofs does after ten minutes without use: until no such image is mounted."""
    deadline = time.monotonic() + 120
    while any(one.startswith(name) for one in images(vms)):
        assert time.monotonic() < deadline, images(vms)
        vms.check_on("node01", ["systemctl", "kill", "--kill-whom=main", "--signal=USR1", "autofs"])
        time.sleep(2)


def quick_says(vms: Vms) -> str:
    done = vms.run_on("node01", [START, ENVS, "quick", "--", "none"], user="ada")
    return done.stdout.strip() or done.stderr.strip()


def until_quick_says(vms: Vms, wanted: str) -> None:
    words = [START, ENVS, "quick", "--", "none"]
    vms.until("node01", words, lambda text: text.strip() == wanted, SEEN, user="ada")


class Talk:
    """A process on node01, as ada, that answers lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self.asks, self.says = process.stdin, process.stdout

    def line(self) -> str:
        ready, _, _ = select.select([self.says], [], [], SECONDS)
        assert ready, "no answer"
        return self.says.readline().strip()

    def ask(self, text: str) -> str:
        self.asks.write(f"{text}\n")
        self.asks.flush()
        return self.line()


@contextmanager
def talking(vms: Vms, *argv: str) -> Iterator[Talk]:
    words = vms.ssh_command("node01", argv, user="ada")
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Talk(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()  # it ends by itself
            process.wait(SECONDS)


SHOWN = """
import json, os, subprocess, sys, numpy
child = subprocess.run(["python", "-c", "import sys; print(sys.prefix)"],
                       capture_output=True, text=True).stdout.strip()
print(json.dumps([sys.prefix, sys.executable, numpy.__file__, numpy.__spec__.cached,
                  int(numpy.arange(4).sum()), os.environ["VIRTUAL_ENV"], child, sys.path]))
"""


def test_a_notebooks_kernel_runs_from_the_image(class_: Vms) -> None:
    python = f"{ENVS}/class/1/{ARCH}/bin/python"
    env = ["env", f"JUPYTER_PATH={ENVS}/jupyter", "JUPYTER_RUNTIME_DIR=/tmp/ada-runtime",
           "IPYTHONDIR=/tmp/ada-ipython"]  # fmt: skip
    image = f"{MOUNTS}/class@1"
    with talking(class_, *env, python, "-I", "-c", NOTEBOOK, "class") as notebook:
        assert notebook.line() == "started"

        def cell(code: str) -> str:
            well, said = json.loads(notebook.ask(json.dumps(code)))
            assert well, said
            return str(said)

        prefix, program, numpy, cached, total, virtual, child, path = json.loads(cell(SHOWN))
        assert (prefix, program, virtual, child) == (image, f"{image}/bin/python", image, image)
        assert numpy.startswith(f"{image}/lib/")
        assert cached.startswith(f"{image}/lib/")
        assert total == 6
        assert [one for one in path if one.startswith(image)], path
        assert not [one for one in path if one.startswith(ENVS)], path
        options = images(class_)["class@1"].split(",")
        assert {"ro", "nosuid", "nodev"} <= set(options)
        # compiled beforehand, for these very files
        assert cell("import numpy.fft, os; print(os.path.exists(numpy.fft.__cached__))") == "True"
        refused = class_.run_on("node01", ["touch", f"{image}/x"])
        assert "Read-only file system" in refused.stderr
        # nothing takes it from under the kernel: neither idleness, nor autofs, nor the server
        class_.check_on("node01", ["systemctl", "kill", "--kill-whom=main", "--signal=USR1",
                                   "autofs"])  # fmt: skip
        class_.check_on("node01", ["systemctl", "restart", "autofs"], timeout=SECONDS)
        class_.check_on("head", ["systemctl", "restart", "nfs-server"], timeout=SECONDS)
        class_.check_on("node01", ["sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches"])
        assert "class@1" in images(class_)
        assert cell("import numpy.polynomial; print(numpy.polynomial.__file__)").startswith(image)
    prune(class_, "class@")


def test_a_running_kernel_keeps_its_version_and_image(quick: Vms) -> None:
    """Others start from the new one meanwhile; when it ended, the old one goes."""
    image = f"{MOUNTS}/quick@1"
    with talking(quick, START, ENVS, "quick", "--", "none") as kernel:
        assert kernel.line() == f"{image} first"
        assert make_quick(quick, 2, "second") == []
        assert make_quick(quick, 3, "third") == []  # 1 is the oldest, and in use
        until_quick_says(quick, f"{MOUNTS}/quick@3 third")
        quick.check_on("node01", ["systemctl", "kill", "--kill-whom=main", "--signal=USR1",
                                  "autofs"])  # fmt: skip
        quick.check_on("node01", ["sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches"])
        assert kernel.ask("__import__('later').VALUE + __import__('later').__file__").startswith(
            f"first{image}/"
        )
        assert "quick@1" in images(quick)
    # still mounted, and used by nobody: its version is collected all the same
    assert "quick@1" in images(quick)
    assert make_quick(quick, 4, "fourth") == [1, 2]
    until_quick_says(quick, f"{MOUNTS}/quick@4 fourth")
    prune(quick, "quick@1")
    gone = quick.run_on("node01", ["ls", image])
    assert gone.returncode != 0, gone.stdout
    assert quick.check_on("head", ["ls", "-A", f"{ENVS}/quick"]).split() == [
        ".lock", "3", "4", "current",
    ]  # fmt: skip


def test_a_new_kernel_of_an_old_name_is_not_started_from_the_old_ones_image(quick: Vms) -> None:
    assert quick_says(quick) == f"{MOUNTS}/quick@1 first"
    assert "quick@1" in images(quick)
    quick.check_on("head", ["rm", "-r", f"{ENVS}/quick"])
    make_quick(quick, 1, "another")
    until_quick_says(quick, f"{ENVS}/quick/1/{ARCH} another")
    prune(quick, "quick@1")
    until_quick_says(quick, f"{MOUNTS}/quick@1 another")


BROKEN = {
    "missing": "rm {image}",
    "empty": "truncate --size=0 {image}",
    "cut": "truncate --size=4096 {image}",
    "garbage": "dd if=/dev/urandom of={image} bs=4096 count=1 conv=notrunc",
    "a student's": "chown ada {image}",
    "writable": "chmod 666 {image}",
    "a link": "mv {image} /nfs/away && ln -s /nfs/away {image}",
}


@pytest.mark.parametrize("how", BROKEN)
def test_the_tree_is_used_where_the_image_is_not_right(quick: Vms, how: str) -> None:
    image = f"{ENVS}/quick/1/{ARCH}.squashfs"
    quick.check_on("head", ["sh", "-c", BROKEN[how].format(image=image)])
    until_quick_says(quick, f"{ENVS}/quick/1/{ARCH} first")
    assert "quick@1" not in images(quick)


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_the_tree_is_used_where_nobody_mounts(quick: Vms, signal: str) -> None:
    quick.check_on("node01", ["systemctl", "kill", f"--signal={signal}", "autofs"])
    quick.until("node01", ["systemctl", "is-active", "autofs"],
                lambda text: text.strip() != "active")  # fmt: skip
    assert quick_says(quick) == f"{ENVS}/quick/1/{ARCH} first"


def test_a_node_mounts_nothing_else_for_anybody(quick: Vms) -> None:
    """A student may ask for any name there."""
    evil = "/home/ada/evil"
    quick.check_on("node01", ["mkdir", "-p", f"{evil}/1"], user="ada")
    quick.check_on("node01", ["cp", f"{ENVS}/quick/1/{ARCH}.squashfs", f"{evil}/1/"], user="ada")
    quick.check_on("head", ["ln", "-sfn", evil, f"{ENVS}/evil"])  # root would have to help
    keys = ["evil@1", "quick@", "quick@1@1", "quick@1x", "../evil@1", "quick@..", "quick@1;id",
            "quick@1 -o suid", "$(id)@1", "-fstype=ext4@1", "*@1", "quick"]  # fmt: skip
    try:
        for key in keys:
            for user in ("ada", "root"):
                said = quick.run_on("node01", ["ls", f"{MOUNTS}/{key}/"], user=user)
                assert said.returncode != 0, (key, said.stdout)
        assert not [one for one in images(quick) if not one.startswith(("quick@1", "class@"))]
        assert quick.run_on("node01", ["ls", f"{MOUNTS}/quick@1/bin"], user="ada").returncode == 0
        # a kernel that only a group may see from now on is not shown to others
        prune(quick, "quick@")
        quick.check_on("head", ["chmod", "0750", f"{ENVS}/quick"])
        quick.until("node01", ["stat", "-c", "%a", f"{ENVS}/quick"],
                    lambda text: text.strip() == "750", SEEN)  # fmt: skip
        said = quick.run_on("node01", ["ls", f"{MOUNTS}/quick@1/bin"], user="root")
        assert said.returncode != 0, said.stdout
    finally:
        quick.check_on("head", ["rm", f"{ENVS}/evil"])
        quick.check_on("head", ["chmod", "0755", f"{ENVS}/quick"])
        quick.check_on("node01", ["rm", "-r", evil], user="ada")


def test_nodes_go_down_and_come_back_with_it(quick: Vms) -> None:
    """A mounted image does not hold up a restart, and is there again when it is asked for."""
    assert quick_says(quick) == f"{MOUNTS}/quick@1 first"
    with talking(quick, START, ENVS, "quick", "--", "none") as kernel:
        assert kernel.line().endswith("first")
        quick.reboot("node01")
    assert images(quick) == {}
    until_quick_says(quick, f"{MOUNTS}/quick@1 first")
