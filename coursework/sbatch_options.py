"""sbatch(1)'s options, as a student wrote them: in a script's #SBATCH lines and a submit line.

What is written there proves nothing of what ran; it tells what was asked for. Text that sbatch
would refuse gives what can be read of it, never an error.
"""

from __future__ import annotations

import re
import shlex

# sbatch(1)'s short options with a value
_SHORT = {
    "A": "account", "a": "array", "c": "cpus-per-task", "C": "constraint", "d": "dependency",
    "D": "chdir", "e": "error", "J": "job-name", "n": "ntasks", "N": "nodes", "o": "output",
    "p": "partition", "q": "qos", "t": "time", "w": "nodelist", "x": "exclude",
}  # fmt: skip
# sbatch(1)'s long options that take no value, or not as a word of its own
_FLAGS = frozenset(
    """contiguous exclusive get-user-env hold ignore-pbs kill-on-invalid-dep no-requeue
    overcommit oversubscribe parsable quiet requeue reboot spread-job test-only use-min-nodes
    verbose wait nice no-kill""".split()
)


def script_options(script: str) -> dict[str, str]:
    """Options of a script's #SBATCH lines, which sbatch reads up to the first command."""
    words: list[str] = []
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            words += _words(line.removeprefix("#SBATCH"))
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    return _options(words)


def line_options(line: str) -> dict[str, str]:
    """Options of a command ``sbatch ...``, up to the script's name."""
    return _options(_words(line)[1:], stop=True)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # an open quote
        return text.split()


def _options(words: list[str], *, stop: bool = False) -> dict[str, str]:
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        long = re.fullmatch(r"--([a-z][a-z0-9-]*)(?:=(.*))?", word, re.DOTALL)
        short = re.fullmatch(r"-([A-Za-z])(.*)", word, re.DOTALL)
        if long:
            flag = long[2] is None and long[1] in _FLAGS
            found[long[1]] = long[2] if long[2] is not None else "" if flag else next(rest, "")
        elif short and short[1] in _SHORT:
            found[_SHORT[short[1]]] = short[2].removeprefix("=") or next(rest, "")
        elif not short and stop:
            break
    return found
