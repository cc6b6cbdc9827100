"""The `practicum` command. Each room's part is in its own module and imports what it needs only
when it runs, so that --help answers at once.

Exit codes: 0 done, 1 failed, 2 called or configured wrongly, 3 changes are pending (plan),
130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import Any, cast

import typer

from cluster.errors import PracticumError
from practicum import (
    assignment,
    converge,
    course,
    kernel,
    lab,
    module,
    munge,
    node,
    quota,
    selftest,
    setup,
    shutdown,
    software,
    status,
    user,
)

# click's UsageError, or the one of typer's own copy of click in its later versions.
_CallError = cast("type[Exception]", typer.BadParameter.__bases__[0])
INTERRUPTED = 130

app = typer.Typer(
    name="practicum",
    help="A teaching supercomputer in the browser: one file describes it, one command makes it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(setup.init)
app.command()(setup.check)
app.command()(converge.plan)
app.command()(converge.apply)
app.command()(status.status)
app.command()(shutdown.shutdown)
app.add_typer(course.app, name="course")
app.add_typer(kernel.app, name="kernel")
app.add_typer(assignment.app, name="assignment")
app.add_typer(lab.app, name="lab")
app.add_typer(module.app, name="module")
app.add_typer(munge.app, name="munge")
app.add_typer(node.app, name="node")
app.add_typer(quota.app, name="quota")
app.add_typer(selftest.app, name="selftest")
app.add_typer(software.app, name="software")
app.add_typer(user.app, name="user")


def version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed

        typer.echo(f"practicum {installed('practicum')}")
        raise typer.Exit


@app.callback()
def front_door(
    version: bool = typer.Option(
        False, "--version", callback=version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command; every error that a person can cause is a sentence and an exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's
        terminals = [stream for stream in range(3) if os.isatty(stream)]
        signal.signal(signal.SIGHUP, partial(_hang_up, terminals))
    sys.exit(run(sys.argv[1:]))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """As Ctrl-C does: what was closed for a while is opened again. Shells and systemd say it more
    than once, and the second time would cut that off."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise KeyboardInterrupt


def _hang_up(terminals: Sequence[int], number: int, frame: FrameType | None) -> None:
    """The terminal is gone: whatever is still said there would fail, and with it what has to be
    done."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in terminals:
        os.dup2(nowhere, stream)
    _interrupt(number, frame)


def run(arguments: list[str]) -> int:
    """The exit code. Errors are told on stderr."""
    command = typer.main.get_command(app)
    try:
        done = command.main(arguments, prog_name="practicum", standalone_mode=False)
    except PracticumError as error:
        _tell(str(error))
        return error.exit_code
    except _CallError as error:
        return _called_wrongly(error)
    except (typer.Abort, KeyboardInterrupt):
        done = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left. Nothing more can be told there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if done == INTERRUPTED:  # later typers make it of Ctrl-C themselves
        _tell("interrupted: run the same command again to go on")
    return done if isinstance(done, int) else 0


def _called_wrongly(error: Any) -> int:
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message)
        return 2
    path = error.ctx.command_path if error.ctx else "practicum"
    stop = "" if message.endswith((".", "?", ")")) else "."
    _tell(f"{message}{stop} See {path} --help")
    return 2


def _tell(sentence: str) -> None:
    typer.secho(sentence, err=True, fg="red" if sys.stderr.isatty() else None)


if __name__ == "__main__":
    main()
