#!/usr/bin/env python3
"""Runs students' notebooks on a compute node, each kernel in a box of its own. Needs nbclient.

    grade_task.py CHUNK

CHUNK is a folder made by coursework.staging: task.json (:class:`Task`'s keys), ``in/STUDENT/``
with the files of each submission, ``out/`` for what this writes: ``STUDENT.started`` and
``STUDENT.json``. A task runs as an account that owns nothing. Only the kernel runs what a student
wrote: inside bubblewrap, without network, processes of others, munge, homes and course folders;
this program stays outside and talks to it through sockets in a folder of the job's.

What it writes is judged by whoever reads it: it is said by an account that runs students' code.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

GRACE = 5  # seconds that a kernel is given to end
TOO_MUCH = "more output than is kept was cut here\n"
MEMORY = "it used more memory than submissions get"
JOB = re.compile(r"^0::(/.*/job_\d+)(?:/|$)", re.MULTILINE)  # slurmd's cgroup v2 of a job


class BoxedKernel(AsyncKernelManager):
    """A kernel behind bubblewrap, reached by sockets of the file system."""

    box: tuple[str, ...] = ()

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return [*self.box, *super().format_kernel_cmd(extra_arguments)]


class Client(NotebookClient):
    """Keeps at most ``room`` bytes of a notebook's output."""

    room = 1_000_000

    def output(self, outs: Any, msg: Any, display_id: str, cell_index: int) -> Any:
        size = len(json.dumps(msg.get("content", {}), default=str))
        if self.room <= 0:
            return None
        self.room -= size
        if self.room <= 0:
            cut = nbformat.v4.new_output("stream", name="stdout", text=TOO_MUCH)
            outs.append(cut)
            return cut
        return super().output(outs, msg, display_id, cell_index)


def box(task: dict[str, Any], run: Path, work: Path) -> list[str]:
    """bubblewrap's arguments up to the kernel's command.

    All is seen read-only, and nothing of it below the folders to hide. The limits are set inside:
    there --nproc counts this box's processes, outside it would count all of the account's.

    --data is each process's own; all of a job's together are held by its cgroup, where the kernel
    is to end what runs in the box first, and not this program.
    """
    limits = task["limits"]
    hidden = [part for path in task["hide"] if Path(path).is_dir() for part in ("--tmpfs", path)]
    return [
        "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
        *(["--unshare-net"] if limits.get("no_network", True) else []),
        "--die-with-parent", "--new-session", "--hostname", "grading",
        # in there the kernel's parent is process 1, which ipykernel takes for an orphan's
        "--unsetenv", "JPY_PARENT_PID",
        "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *hidden,
        "--bind", str(run), str(run), "--bind", str(work), str(work), "--chdir", str(work),
        "choom", "--adjust", "1000", "--",
        "prlimit", f"--nproc={limits['processes']}", f"--fsize={limits['file_mb'] << 20}",
        f"--data={limits['memory_mb'] << 20}", "--core=0", "--nofile=1024", "--",
    ]  # fmt: skip


async def notebook(
    task: dict[str, Any], folder: Path, content: Any, student: str
) -> dict[str, Any]:
    """Execute one notebook. What was executed, with its outputs; and what went wrong."""
    run, work = folder / "run", folder / "work"
    run.mkdir(exist_ok=True)
    limits = task["limits"]
    manager = BoxedKernel(
        kernel_name=content.metadata.get("kernelspec", {}).get("name", ""),
        transport="ipc",
        ip=str(run / "s"),
        connection_file=str(run / "kernel.json"),
    )
    manager.box = tuple(box(task, run, work))
    client = Client(
        content,
        km=manager,
        timeout=limits["cell_seconds"],
        startup_timeout=limits["start_seconds"],
        iopub_timeout=10,
        allow_errors=True,
        interrupt_on_timeout=True,
        error_on_timeout={
            "ename": "CellTimeoutError",
            "evalue": f"not done after {limits['cell_seconds']} s",
            "traceback": [f"CellTimeoutError: not done after {limits['cell_seconds']} s"],
        },
        raise_on_iopub_timeout=False,
        on_cell_executed=tell_error,
    )
    executed: dict[str, Any] = {}
    failure = ""
    ended = ended_for_memory()
    try:
        async with asyncio.timeout(limits["notebook_seconds"]):
            failure = await cells(client, manager, executed, environment(task, work, student))
    except TimeoutError:
        failure = f"the notebook was not done after {limits['notebook_seconds']} s"
    except DeadKernelError:
        failure = "the kernel died"
    except CellTimeoutError:
        failure = "the kernel could not be interrupted"
    except Exception as error:  # noqa: BLE001  a student's kernel may send anything
        failure = f"the kernel could not be used: {type(error).__name__}: {error}"[:300]
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
        await end(manager)
        shutil.rmtree(run, ignore_errors=True)
    if ended_for_memory() > ended:
        failure = MEMORY  # also where what was left of it went on, or met another limit then
    return {"cells": executed, "failure": failure}


def ended_for_memory() -> int:
    """How many processes of this job the kernel has ended for want of memory, up to now; 0 where
    no cgroup v2 counts them (Documentation/admin-guide/cgroup-v2.rst: memory.events)."""
    try:
        own = JOB.search(Path("/proc/self/cgroup").read_text())
        if own is None:
            return 0
        events = Path(f"/sys/fs/cgroup{own[1]}/memory.events").read_text()
    except OSError:
        return 0
    counted = re.search(r"^oom_kill (\d+)$", events, re.MULTILINE)
    return int(counted[1]) if counted else 0


def tell_error(cell: Any, execute_reply: Any, **_rest: Any) -> None:
    """An error that the kernel (or the time limit) told only in its reply is an output, too."""
    content = execute_reply["content"]
    if content["status"] != "error":
        return
    known = {one.get("ename") for one in cell.outputs if one.output_type == "error"}
    if content["ename"] not in known:
        cell.outputs.append(
            nbformat.v4.new_output(
                "error",
                ename=content["ename"],
                evalue=content["evalue"],
                traceback=content["traceback"] or [f"{content['ename']}: {content['evalue']}"],
            )
        )


def environment(task: dict[str, Any], work: Path, student: str) -> dict[str, str]:
    """Of the kernel: nothing of the job's; the student's name, so that seeds are theirs."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(work),
        "TMPDIR": "/tmp",  # noqa: S108  the box's own
        "USER": student,
        "LOGNAME": student,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "NBGRADER_EXECUTION": "autograde",
        "IPYTHONDIR": str(work / ".ipython"),
        "JUPYTER_PATH": task["jupyter_path"],
    }


async def cells(
    client: Client, manager: BoxedKernel, executed: dict[str, Any], env: dict[str, str]
) -> str:
    """Run the cells in order; "" or why it ended early. ``executed`` is filled as they are done."""
    # A signal would reach bubblewrap, not the kernel; a message on its control channel does.
    manager.kernel_spec.interrupt_mode = "message"
    await manager.start_kernel(env=env, cwd=env["HOME"])
    await client.async_start_new_kernel_client()
    for index, cell in enumerate(client.nb.cells):
        if cell.cell_type != "code":
            continue
        # a test is not among the inputs that later cells can look at
        await client.async_execute_cell(cell, index, store_history=not is_test(cell))
        executed[str(index)] = {
            "outputs": cell.outputs,
            "execution_count": cell.execution_count,
        }
        if not await manager.is_alive():
            return "the kernel died"
    return ""


def is_test(cell: Any) -> bool:
    about = cell.metadata.get("nbgrader", {})
    return bool(about.get("grade")) and not about.get("solution")


async def end(manager: BoxedKernel) -> None:
    """With bubblewrap's process all in its box ends."""
    try:
        async with asyncio.timeout(GRACE):
            await manager.shutdown_kernel(now=True)
    except Exception as error:  # noqa: BLE001  sweep() ends whatever this did not
        sys.stderr.write(f"a kernel's end: {error}\n")


def sweep() -> None:
    """Nothing of this account but this program and its parents goes on running."""
    kept = set()
    pid = os.getpid()
    while pid > 1:
        kept.add(pid)
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            break
        pid = int(fields[1])
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) in kept:
            continue
        try:
            if entry.stat().st_uid == os.getuid():
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def submission(task: dict[str, Any], source: Path, top: Path) -> dict[str, Any]:
    """All notebooks of one student, in a fresh folder."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="g", dir=top))
    try:
        work = folder / "work"
        shutil.copytree(source, work, symlinks=True)
        for path in [work, *work.rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
        # the hidden tests are in them: no code of a student's runs beside these files
        paths = {name: work / f"{name}.ipynb" for name in task["notebooks"]}
        contents = {
            name: nbformat.read(path, as_version=4)
            for name, path in paths.items()
            if path.is_file()
        }
        for name in contents:
            paths[name].unlink()
        found = {
            name: asyncio.run(notebook(task, folder, content, source.name))
            for name, content in contents.items()
        }
        return {"notebooks": found, "seconds": round(time.monotonic() - began, 3)}
    finally:
        sweep()
        shutil.rmtree(folder, ignore_errors=True)


def publish(path: Path, content: Any) -> None:
    """Whole or not at all. The grader is no member of this account's group, so all may read it, who
    get into the folder: the two alone. (Slurm brings the umask of whoever submitted.)"""
    text = json.dumps(content)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.replace(path)


def main(argv: list[str]) -> int:
    chunk = Path(argv[1])
    task = json.loads((chunk / "task.json").read_text())
    os.environ["JUPYTER_PATH"] = task["jupyter_path"]
    top = Path(os.environ.get("SLURM_TMPDIR") or tempfile.mkdtemp(prefix="grading-"))
    os.environ["JUPYTER_RUNTIME_DIR"] = str(top)
    os.environ["HOME"] = str(top)
    for student in task["students"]:
        done = chunk / "out" / f"{student}.json"
        started = chunk / "out" / f"{student}.started"
        if done.exists() or started.exists():
            continue  # the task was requeued: what was running then is not tried again here
        publish(started, {"at": time.time(), "job": os.environ.get("SLURM_JOB_ID", "")})
        publish(done, submission(task, chunk / "in" / student, top))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
