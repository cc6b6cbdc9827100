"""`module` in every kind of shell, on the three distributions.

Debian's package brings /etc/profile.d/lmod.sh (login shells). It leaves MODULEPATH alone when
MODULEPATH_ROOT is set already, so a file that sorts before it decides the path. Interactive
shells that are no login shells read /etc/bash.bashrc; scripts read the file named by BASH_ENV,
which travels from the submitting shell into a batch job.
"""

from __future__ import annotations

import shlex

from cluster.model import Cluster

INIT = "/usr/share/lmod/lmod/init/bash"
PROFILE = "/etc/profile.d/00-practicum-modules.sh"  # before lmod.sh
SHELL_INIT = "/usr/local/lib/practicum/modules.sh"
COMMAND = "/usr/local/lib/practicum/bin/module"


def modulefiles(cluster: Cluster) -> str:
    """The root of the site's modulefiles, on shared storage."""
    return f"{cluster.storage.apps}/modulefiles"


def session_environment(cluster: Cluster) -> dict[str, str]:
    """What a process must have in its environment for `module` to work in its shells."""
    root = modulefiles(cluster)
    return {
        "BASH_ENV": INIT,
        "MODULEPATH_ROOT": root,
        "MODULEPATH": f"{root}/Core",
        # a cell's `!module avail` has a terminal but nobody at its keys: a pager waits forever
        "LMOD_PAGER": "none",
    }


def profile(cluster: Cluster) -> str:
    """For login shells, sh or bash: where modulefiles are. What is set already stays."""
    lines = [f"    export {key}={shlex.quote(value)}"
             for key, value in session_environment(cluster).items()]  # fmt: skip
    return "\n".join(
        ["# Written by practicum: where modulefiles are. lmod.sh, read after this, does the rest.",
         'if [ -z "${MODULEPATH_ROOT:-}" ]; then', *lines, "fi", ""]
    )  # fmt: skip


def shell_init() -> str:
    """For bash shells that are no login shells: the path, and the function."""
    return f"""# Written by practicum: makes `module` work in a bash that is no login shell.
. {PROFILE}
if [ -r {INIT} ] && ! declare -F module >/dev/null; then
    . {INIT}
fi
"""


def bashrc_line() -> str:
    return f"[ ! -r {SHELL_INIT} ] || . {SHELL_INIT}"


def command() -> str:
    """`module` for shells without functions (`!module avail` in a cell runs sh)."""
    return f"""#!/bin/bash
# Written by practicum: module avail, list, spider, help ... where `module` is no function.
unset -f module
. {SHELL_INIT}
case "${{1:-}}" in
load|add|unload|rm|del|swap|switch|purge|use|unuse|restore|reset)
    echo "module $1 has no effect here: this shell ends with this line." \\
        "Use a terminal, a %%bash cell or a batch script." >&2
    exit 1
    ;;
esac
module "$@"
"""
