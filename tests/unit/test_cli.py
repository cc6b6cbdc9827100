"""The command: exit codes, one sentence for each mistake, and pages that are current."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest

from cluster.load import load
from cluster.secrets import load_secrets, secrets_path
from practicum import report, show, start
from practicum.cli import run
from practicum.manual import manual
from practicum.start import Place, cluster_toml

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def practicum(*arguments: str, stdin: str = "") -> Done:
    """The command in this process, without a terminal."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        code = run(list(arguments))
    return Done(code, out.getvalue(), errors.getvalue())


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["chekc"], "No such command 'chekc'. Did you mean 'check'? See practicum --help"),
        (["plan", "--limt", "x"], "No such option: --limt"),
        (["lab", "exec"], "Missing argument 'NODE'. See practicum lab exec --help"),
        (["check", "-f", "none.toml"], "there is no none.toml: practicum init writes one"),
        (["apply"], "apply asks before it changes anything, and here is no terminal to ask on"),
        (["plan", "-f", "/"], "/ cannot be read: Is a directory"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(arguments: list[str], sentence: str) -> None:
    done = practicum(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help_is_at_once_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from practicum.cli import run; run(['--help']);"
        "print(sorted({'pydantic', 'paramiko', 'jinja2', 'cryptography', 'rich.live'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_arguments_show_the_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "practicum"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout.startswith("Usage: practicum")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, and what ends it more roughly, while it waits for a password on stdin."""
    assert run(["init", "-f", str(tmp_path / "cluster.toml")]) == 0
    # A shell's background job, as CI may be, ignores Ctrl-C, and so would what it starts.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "from practicum.cli import main; print('up', flush=True); main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start,
         "user", "passwd", "ada", "-f", str(tmp_path / "cluster.toml")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (
        130, "interrupted: run the same command again to go on\n",
    )  # fmt: skip


def test_what_was_begun_is_ended_when_the_terminal_goes(tmp_path: Path) -> None:
    """A closed laptop, a lost SSH: what cleans up may still say so, into the void."""
    body = (
        "import os, signal, time, typer\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # under nohup it is not
        "from practicum import cli\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def work(ended: str) -> None:\n"
        "    try:\n"
        "        print('up', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        for number in (signal.SIGHUP, signal.SIGTERM): os.kill(os.getpid(), number)\n"
        "        for _ in range(100): print('ending', flush=True)\n"
        "        open(ended, 'w').close()\n"
        "cli.app = app\n"
        "cli.main()\n"
    )
    ended = tmp_path / "ended"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", body, str(ended)])
    while b"up" not in os.read(terminal, 1000):
        pass
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert ended.exists()


def test_init_then_check_then_init_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitignore").write_text("build")
    assert run(["init"]) == 0
    assert "cluster.toml: written" in capsys.readouterr().out
    secrets = secrets_path(Path("cluster.toml"))
    key = tmp_path / "secrets" / "ssh_key"
    assert [path.stat().st_mode & 0o777 for path in (secrets, key, key.parent)] == [
        0o600, 0o600, 0o700,
    ]  # fmt: skip
    public = paramiko.Ed25519Key.from_private_key_file(str(key)).get_base64()
    assert key.with_name("ssh_key.pub").read_text().split()[:2] == ["ssh-ed25519", public]
    assert (tmp_path / ".gitignore").read_text() == "build\nsecrets/\nstate/\n"
    assert run(["check"]) == 0
    assert "no password yet: ada, ines" in capsys.readouterr().out

    mine = Path("cluster.toml").read_text().replace('"class"', '"mine"')
    Path("cluster.toml").write_text(mine)
    known = load_secrets(secrets)
    key.unlink()  # as if stopped half-way
    assert run(["init"]) == 0
    out = capsys.readouterr().out
    assert "cluster.toml: kept as it is" in out
    assert "ssh_key: generated" in out
    assert Path("cluster.toml").read_text() == mine
    assert load_secrets(secrets) == known
    assert (tmp_path / ".gitignore").read_text().count("secrets/") == 1


def test_init_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["init", "-f", str(tmp_path / "file" / "cluster.toml")]) == 1
    assert "file cannot be written: File exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place",
    [Place(), Place("192.168.1.0/24", "192.168.1.254", "192.168.1.7"),
     Place("10.0.0.0/28", "10.0.0.1", "10.0.0.14"), Place("172.16.0.0/16", None, "172.16.255.254"),
     Place("10.1.0.0/24", "10.1.0.3", "10.1.0.2"), start.here()],
)  # fmt: skip
def test_what_init_writes_is_right_wherever_it_runs(tmp_path: Path, place: Place) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(cluster_toml(place))
    assert load(path).machines[0].address == place.own


def test_passwords(tmp_path: Path) -> None:
    file = str(tmp_path / "cluster.toml")
    assert run(["init", "-f", file]) == 0
    done = practicum("user", "passwd", "adda", "-f", file)
    assert (done.returncode, "no user adda (did you mean ada?)" in done.stderr) == (2, True)
    done = practicum("user", "passwd", "ada", "-f", file, stdin="hush hush\n")
    assert done.returncode == 0
    assert "hush" not in done.stdout + done.stderr
    assert load_secrets(secrets_path(Path(file)))["password.ada"].startswith("$6$")
    done = practicum("user", "passwd", "ada", "-f", file)
    assert (done.returncode, "at least one character" in done.stderr) == (2, True)


def test_limit_names_the_nodes_there_are(tmp_path: Path) -> None:
    file = str(tmp_path / "cluster.toml")
    assert run(["init", "-f", file]) == 0
    done = practicum("plan", "-f", file, "--limit", "node[02-03]")
    assert done.returncode == 2
    assert done.stderr == "--limit: there is no node node03; there are login,node[01-02]\n"


def test_pages_are_current() -> None:
    assert (ROOT / "docs" / "commands.md").read_text() == manual(), "run: make commands"


@dataclass
class Change:
    key: str
    action: str
    summary: str = ""
    diff: str = ""


@dataclass
class Node:
    node: str
    changes: tuple[Change, ...] = ()
    error: str = ""


@dataclass
class Plan:
    nodes: tuple[Node, ...]
    pending: int


DIFF = "--- a\n+++ b\n@@ -1 +1 @@\n-[red]old\n+new\x1b[31m\n"


def test_a_plan_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    changes = (
        Change("file:/etc/a", "update", "update /etc/a", DIFF),
        Change("file:/etc/b", "create", "create /etc/b", "+all\n+of it\n"),
        Change("user:old", "list", "account old is no longer declared"),
    )
    made = Plan((Node("login", changes), Node("node01", error="does not answer")), 2)
    show.plan(made)  # type: ignore[arg-type]
    told = capsys.readouterr().out
    assert told.splitlines() == [
        "login: 2 changes",
        "  ~ update /etc/a",
        "      @@ -1 +1 @@",
        "      -[red]old",
        "      +new\ufffd[31m",
        "  + create /etc/b",
        "  · account old is no longer declared",
        "node01: does not answer",
        "2 changes on 1 node.",
        "Not asked: node01 (see above)",
    ]
    show.plan(made, whole=True)  # type: ignore[arg-type]
    assert "+of it" in capsys.readouterr().out
    long = Change("file:/c", "update", "update /c", "+line\n" * 30)
    show.plan(Plan((Node("login", (long,)),), 1))  # type: ignore[arg-type]
    assert "... 10 more lines: --diff shows them" in capsys.readouterr().out
    show.plan(Plan((Node("login"),), 0))  # type: ignore[arg-type]
    assert capsys.readouterr().out == "No changes: 1 node as declared.\n"
    assert json.loads(show.plan_json(made))["nodes"][1]["error"] == "does not answer"  # type: ignore[arg-type]


def test_progress_is_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    with report.Plain(stream) as told:
        told.node_state("login", "connecting")
        told.node_state("login", "connecting")
        told.step("login", "12 packages")
        told.line("done")
    assert stream.getvalue() == "login: connecting\nlogin: 12 packages\ndone\n"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        kinds = []
        for term in ("dumb", "xterm"):
            monkeypatch.setenv("TERM", term)
            kinds.append(type(report.reporter()))
    os.close(parent)
    assert kinds == [report.Plain, report.LiveTable]


def test_progress_is_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as stream, report.LiveTable(stream) as told:
        told.node_state("login", "connecting")
        told.step("login", "[bold]12 packages")
        told.line("[a line]")
        time.sleep(0.3)
        told.pause()
        told.node_state("node01", "applying")
        time.sleep(0.3)
    shown = os.read(parent, 65536).decode()
    os.close(parent)
    for part in ("login", "connecting", "[bold]12 packages", "[a line]", "node01", "applying"):
        assert part in shown


def test_an_apply_does_not_load_the_hub() -> None:
    """JupyterHub and SQLAlchemy take a second to load, and no role needs them."""
    source = "import sys, practicum.rooms; print({'jupyterhub', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
