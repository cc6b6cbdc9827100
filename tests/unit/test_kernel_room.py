"""What runs on nodes for kernels: versions and their leases, the starter, Slurm's answers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.build_env import BuildError
from kernels.environments import FILES
from kernels.node import building, desk, job, present, shelf, slurm, solving
from kernels.node.request import Request
from kernels.node.words import short
from lmod import shells

ARCH = os.uname().machine
STARTER = FILES / "kernel-start"
needs_lmod = pytest.mark.skipif(not Path(shells.INIT).exists(), reason="lmod is not installed")


@pytest.fixture
def envs(tmp_path: Path) -> Path:
    return tmp_path / "envs"


@pytest.fixture
def put(envs: Path) -> Callable[..., Path]:
    """Versions whose python says who it is, then waits for its standard input to end."""

    def make(*versions: int, name: str = "demo", **more: object) -> Path:
        root = envs / name
        for version in versions:
            python = root / str(version) / ARCH / "bin/python"
            python.parent.mkdir(parents=True)
            python.write_text(
                '#!/bin/sh\necho "$VIRTUAL_ENV" "$FROM_MODULE" "$@"\ncat >/dev/null\n'
            )
            python.chmod(0o755)
            request = Request(name=name, packages=("six",), **more)  # type: ignore[arg-type]
            place = root / str(version)
            (place / shelf.START).write_text(present.start_json(request))
            (place / shelf.LEASE).touch()
            record = {
                "digest": request.digest, "request": json.loads(request.text()),
                "archs": {ARCH: {"python": "3.11.2", "tool": "uv", "node": "n", "started": 1.0}},
                "built": "2026-01-01T00:00:00Z", "by": "me", "files": 1, "bytes": 1,
            }  # fmt: skip
            (place / shelf.RECORD).write_text(json.dumps(record))
        if versions:
            shelf.put_link(root, versions[-1])
        return root

    return make


@pytest.fixture
def start(envs: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def run(*words: str, **env: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-IS", str(STARTER), *words, "--", "/a file; $(x)"]
        shell = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **env},
        )  # fmt: skip
        running.append(shell)
        return shell

    yield run
    for one in running:
        one.communicate(timeout=30)


def test_the_starter_resolves_the_link_and_holds_a_lease(
    envs: Path, put: Callable[..., Path], start: Callable[..., subprocess.Popen[str]]
) -> None:
    root = put(1, 2, 3)
    shelf.put_link(root, 1)
    kernel = start(str(envs), "demo")
    assert kernel.stdout is not None
    said = kernel.stdout.readline().strip()
    assert said == f"{root}/1/{ARCH}  -m ipykernel_launcher -f /a file; $(x)"
    shelf.put_link(root, 3)
    assert shelf.in_use(root, 1)
    assert not shelf.in_use(root, 2)
    assert shelf.collect(root, 0) == [2]  # 3 is live, and from 1 a kernel runs
    kernel.communicate(timeout=30)
    assert not shelf.in_use(root, 1)
    assert shelf.collect(root, 0) == [1]
    assert shelf.numbers(root) == [3]


def test_removing_is_refused_while_a_kernel_runs_and_done_later(
    envs: Path, put: Callable[..., Path], start: Callable[..., subprocess.Popen[str]]
) -> None:
    root = put(1, 2)
    present.show(envs, Request(name="demo"), 2)
    kernel = start(str(envs), "demo")
    assert kernel.stdout is not None
    kernel.stdout.readline()
    with pytest.raises(BuildError, match=r"kernels run from demo \(version 2\): end them"):
        desk.remove(envs, {"name": "demo"}, print)
    assert (envs / "jupyter/kernels/demo/kernel.json").exists()
    assert desk.remove(envs, {"name": "demo", "later": True}, print) == {"left": [2]}
    assert not (envs / "jupyter/kernels/demo").exists()
    assert desk.leftovers(envs, []) == []  # nothing of it can go now
    kernel.communicate(timeout=30)
    desk.sweep(envs, [])
    assert not root.exists()


def test_rollback_holds_against_apply_until_the_request_changes(
    envs: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = put(1)
    put(2, name="other", title="Other")
    wanted = Request(name="demo", packages=("six", "numpy"))
    place = root / "2"
    place.mkdir()
    known = shelf.record(root, 1)
    (place / shelf.RECORD).write_text(json.dumps({**known, "digest": wanted.digest}))
    (place / ARCH).mkdir()
    shelf.put_link(root, 2)
    monkeypatch.setenv("PATH", "/nonexistent")  # no Slurm to ask for processors
    assert not desk.as_wanted(envs, wanted)  # not in the launcher yet
    desk.make(envs, wanted, print)
    assert desk.as_wanted(envs, wanted)
    done = desk.rollback(envs, {"name": "demo", "request": json.loads(wanted.text())}, print)
    assert (done["from"], done["version"]) == (2, 1)
    assert desk.as_wanted(envs, wanted), "apply would undo a rollback"
    assert not desk.as_wanted(envs, Request(name="demo", packages=("scipy",)))
    with pytest.raises(BuildError, match="no version before 1"):
        desk.rollback(envs, {"name": "demo", "request": json.loads(wanted.text())}, print)
    with pytest.raises(BuildError, match=r"no version 7; there are: 1, 2"):
        desk.rollback(
            envs, {"name": "demo", "version": 7, "request": json.loads(wanted.text())}, print
        )
    with pytest.raises(BuildError, match="there is no kernel nope; there are: demo, other"):
        desk.show(envs, {"name": "nope"}, print)


def test_a_folder_in_the_links_place_is_refused(put: Callable[..., Path]) -> None:
    root = put(1)
    (root / "current").unlink()
    (root / "current").mkdir()
    with pytest.raises(BuildError, match="is a folder, where practicum keeps a link"):
        shelf.put_link(root, 1)


def test_a_link_in_the_kernels_place_is_refused(envs: Path, tmp_path: Path) -> None:
    envs.mkdir()
    (envs / "demo").symlink_to(tmp_path)
    with (
        pytest.raises(BuildError, match="is a link, and practicum puts a folder there"),
        shelf.changing(envs / "demo"),
    ):
        pass


def test_two_builds_of_one_name_at_once(envs: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from kernels.node import shelf\n"
        f"with shelf.changing(Path({str(envs / 'demo')!r})): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    try:
        with (
            pytest.raises(BuildError, match="demo is being built or changed already"),
            shelf.changing(envs / "demo"),
        ):
            pass
    finally:
        other.communicate(timeout=30)


def test_a_build_that_fails_leaves_the_live_version(
    envs: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here for want of Slurm; the folder of the new version is gone, too."""
    root = put(1)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BuildError, match="Slurm's scontrol is not on this node"):
        building.build(envs, Request(name="demo"), print)
    assert shelf.live(root) == 1
    assert shelf.numbers(root) == [1]
    assert not (root / "2").exists()


def test_what_the_builder_wrote_is_read_only_if_it_is_a_plain_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    (tmp_path / "link").symlink_to(secret)
    os.link(secret, tmp_path / "second")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "second", "pipe"):
        with pytest.raises(BuildError):
            shelf.read_theirs(tmp_path / name)


def test_a_logo_that_is_a_link_to_elsewhere_is_not_shown(
    envs: Path, put: Callable[..., Path], tmp_path: Path
) -> None:
    root = put(1)
    (tmp_path / "secret").write_text("root's")
    own = root / "1" / ARCH / "share/jupyter/kernels/python3"
    own.mkdir(parents=True)
    (own / "logo-svg.svg").symlink_to(tmp_path / "secret")
    (own / "logo-64x64.png").write_text("a picture")
    present.show(envs, Request(name="demo"), 1)
    shown = {path.name for path in (envs / "jupyter/kernels/demo").iterdir()}
    assert shown == {"kernel.json", "logo-64x64.png"}


def test_launcher_tells_title_version_and_modules() -> None:
    wanted = Request(name="mpi", title="MPI", modules=("gcc/12", "openmpi"))
    spec = json.loads(present.kernel_json(Path("/nfs/envs"), wanted, 3))
    assert spec["display_name"] == "MPI · v3 · gcc/12 openmpi"
    assert spec["argv"][1:] == ["/nfs/envs", "mpi", "gcc/12", "openmpi", "--", "{connection_file}"]


def sorry_server(envs: Path) -> None:
    """A server environment whose python prints why it was started."""
    python = envs / "server/current/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$PRACTICUM_TROUBLE"\n')
    python.chmod(0o755)


def test_a_kernel_that_cannot_start_says_so_in_the_notebook(
    envs: Path, put: Callable[..., Path], start: Callable[..., subprocess.Popen[str]]
) -> None:
    sorry_server(envs)
    put(1)
    said, _ = start(str(envs), "none").communicate(timeout=30)
    assert "none cannot be read (No such file or directory)" in said
    (envs / "demo/1" / ARCH).rename(envs / "demo/1/mips")
    said, _ = start(str(envs), "demo").communicate(timeout=30)
    assert "not built for this node" in said


@pytest.fixture
def library(tmp_path: Path) -> str:
    """kernel-start with a modules.sh that knows two modules of its own."""
    tree = tmp_path / "modules"
    tree.mkdir()
    (tree / "good.lua").write_text('setenv("FROM_MODULE", "yes; $(no)")\n')
    (tree / "bad.lua").write_text('LmodError("this module is broken")\n')
    init = tmp_path / "modules.sh"
    init.write_text(f"export MODULEPATH={tree}\n. {shells.INIT}\n")
    text = STARTER.read_text().replace('f"{LIBRARY}/modules.sh"', repr(str(init)))
    script = tmp_path / "kernel-start"
    script.write_text(text)
    return str(script)


@needs_lmod
def test_modules_are_loaded_first_and_their_errors_told(
    envs: Path, put: Callable[..., Path], library: str
) -> None:
    sorry_server(envs)
    put(1)

    def run(*modules: str) -> str:
        argv = [sys.executable, "-IS", library, str(envs), "demo", *modules, "--", "file"]
        env = {"PATH": "/usr/bin:/bin", "HOME": str(envs)}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, input="",
                              check=False)  # fmt: skip
        return done.stdout

    assert "yes; $(no) -m ipykernel_launcher" in run("good")
    said = run("good", "bad")
    assert "loads the modules good bad first, which failed" in said
    assert "this module is broken" in said
    assert "nosuch" in run("nosuch") and "unknown" in run("nosuch")


@needs_lmod
def test_builds_find_what_the_modules_bring(library: str) -> None:
    def run(*modules: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-IS", library, "--run", *modules, "--",
                "sh", "-c", 'echo "$FROM_MODULE" "$@"', "sh", "a; b", "--", "c"]  # fmt: skip
        return subprocess.run(argv, env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
                              capture_output=True, text=True, timeout=60, check=False)  # fmt: skip

    assert run("good").stdout == "yes; $(no) a; b -- c\n"
    wrong = run("good", "bad")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "this module is broken" in wrong.stderr


def fill(path: Path) -> None:
    """Until nothing more fits."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own needs root")
def test_a_full_disk_leaves_the_live_version(
    envs: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one, of 512 kB; uv is what fills it."""
    uv = Path(sys.executable).with_name("uv")
    envs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "kernels", str(envs)]
    subprocess.run(mount, check=True, timeout=60)
    try:
        root = put(1)
        tools = envs / ".tools" / ARCH
        tools.mkdir(parents=True)
        (tools / "uv").symlink_to(uv)
        monkeypatch.setenv(job.HERE, "1")
        fill(envs / "large")
        os.truncate(envs / "large", (envs / "large").stat().st_size - 32768)  # less than a venv
        with pytest.raises(BuildError, match="the disk is full"):
            building.build(envs, Request(name="demo"), print)
        assert (shelf.live(root), shelf.numbers(root)) == (1, [1])
        assert {path.name for path in root.iterdir()} == {"1", "current"}
        fill(envs / "more")
        order = {"request": json.loads(Request(name="other").text())}
        with pytest.raises(OSError) as caught:
            desk.build(envs, order, print)
        assert desk.sentence(caught.value) == "the disk is full (No space left on device)"
        assert shelf.live(root) == 1
    finally:
        subprocess.run(["umount", str(envs)], check=True, timeout=60)


NODES = """NodeName=n1 Arch=x86_64 CoresPerSocket=4 State=IDLE
NodeName=n2 Arch=aarch64 State=DOWN*
NodeName=n3 CoresPerSocket=1 State=UNKNOWN
"""


def fake_scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    tool = tmp_path / "bin/scontrol"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!/bin/sh\ncat <<'E'\n{text}E\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")


def test_processors_are_those_that_slurm_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_scontrol(tmp_path, monkeypatch, NODES)
    with pytest.raises(BuildError, match=r"no node with a processor aarch64 takes jobs \(n2\)"):
        slurm.kinds(slurm.machines())
    fake_scontrol(tmp_path, monkeypatch, NODES.replace("DOWN*", "MIXED"))
    assert set(slurm.kinds(slurm.machines())) == {"x86_64", "aarch64"}
    fake_scontrol(tmp_path, monkeypatch, NODES.replace("aarch64", "armv7l"))
    with pytest.raises(BuildError, match=r"n2 is 32-bit \(armv7l\): kernels need 64-bit"):
        slurm.kinds(slurm.machines())


UV = """  × No solution found when resolving dependencies:
  ╰─▶ Because nosuchpkg was not found in the package registry and you require
      nosuchpkg, we can conclude that your requirements are unsatisfiable.

      hint: more words
"""


def test_the_resolvers_words_are_shortened() -> None:
    assert short(UV) == (
        "No solution found when resolving dependencies: Because nosuchpkg was not found in the "
        "package registry and you require nosuchpkg, we can conclude that your requirements are "
        "unsatisfiable"
    )
    assert short("error: Failed to write: No space left on device (os error 28)") == (
        "the disk is full (No space left on device)"
    )
    assert len(short("because a and b, " * 200)) < 430


@given(st.text(max_size=3000))
def test_short_is_one_line(text: str) -> None:
    assert "\n" not in short(text)
    assert len(short(text)) <= 430


BREAKS_LATE = """
import atexit, os
__version__ = "1"
atexit.register(os.abort)  # what is still there when Python takes itself apart
Channel = str
class Gateway:
    def __init__(self, cache_dir): pass
class VirtualPackage:
    detect = staticmethod(list)
async def solve(**wanted): return []
async def install(**wanted): pass
"""


def test_a_solver_that_breaks_after_its_work_has_done_it(tmp_path: Path) -> None:
    """The real one does so once in many runs on a busy node, which no test can wait for."""
    (tmp_path / "rattler.py").write_text(BREAKS_LATE)
    wanted, done = tmp_path / "wanted.json", tmp_path / "done.json"
    wanted.write_text(json.dumps({
        "lock": "", "cache": str(tmp_path), "channels": [], "packages": [], "platform": "noarch",
        "target": str(tmp_path / "target"),
    }))  # fmt: skip
    argv = [sys.executable, str(Path(solving.__file__)), str(wanted), str(done)]
    ran = subprocess.run(argv, env={"PYTHONPATH": str(tmp_path)}, check=False, timeout=60)
    assert ran.returncode == 0
    assert json.loads(done.read_text()) == {"lock": "", "tool": "py-rattler 1"}


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(title=TEXTS, packages=st.lists(TEXTS, max_size=3), lock=TEXTS)
def test_requests_survive_their_journey(title: str, packages: list[str], lock: str) -> None:
    request = Request(name="demo", title=title, packages=tuple(packages), lock=lock)
    assert Request.read(request.text()) == request
    spec = json.loads(present.kernel_json(Path("/e"), request, 1))
    assert spec["argv"][-2:] == ["--", "{connection_file}"]


@pytest.mark.parametrize("name", ["../x", "a b", "a;b", "", "A", "$(x)", "a/b"])
def test_hostile_names_go_no_further(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a kernel"):
        Request.read(Request(name=name).text())


def test_a_check_before_the_order_is_there_says_build(tmp_path: Path) -> None:
    order = tmp_path / "kernel-demo.json"
    assert desk.main(["check", str(order), "0" * 64]) == 1
    order.write_text(json.dumps({"envs": str(tmp_path), "request": {"name": "demo"}}))
    assert desk.main(["check", str(order), "0" * 64]) == 1


def test_waiting_for_a_file_has_an_end(tmp_path: Path) -> None:
    began = time.monotonic()
    assert not shelf.appears(tmp_path / "never", 0.3)
    assert time.monotonic() - began < 5
