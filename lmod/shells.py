"""`module` in every kind of shell, on the three distributions.

| shell | read by | makes `module` |
|---|---|---|
| bash, sh: login | /etc/profile.d | PROFILE, then the package's lmod.sh, then UPDATE |
| bash: interactive, no login | /etc/bash.bashrc | SHELL_INIT |
| bash: script, batch job, %%bash cell | BASH_ENV of the submitting shell | Lmod's init |
| zsh: any | /etc/zsh/zshenv | ZSH_INIT |
| csh, tcsh: any but -f | /etc/csh.cshrc | CSH_INIT |
| `!module avail` in a cell | PATH of sessions | COMMAND |

Debian's package brings /etc/profile.d/lmod.sh. It leaves MODULEPATH alone when MODULEPATH_ROOT is
set already, so a file that sorts before it decides the path.
"""

from __future__ import annotations

import shlex

from cluster.model import Cluster
from lmod.catalogue import modulefiles

LMOD = "/usr/share/lmod/lmod"
INIT = f"{LMOD}/init/bash"
PROFILE = "/etc/profile.d/00-practicum-modules.sh"  # before lmod.sh
UPDATE = "/etc/profile.d/zz-practicum-modules.sh"  # after it
LIBRARY = "/usr/local/lib/practicum"
SHELL_INIT = f"{LIBRARY}/modules.sh"
ZSH_INIT = f"{LIBRARY}/modules.zsh"
CSH_INIT = f"{LIBRARY}/modules.csh"
COMMAND = f"{LIBRARY}/bin/module"


def paths(cluster: Cluster) -> tuple[str, ...]:
    """MODULEPATH: practicum's own, those written by hand, and the trees of others."""
    root = modulefiles(cluster)
    return (f"{root}/Core", f"{root}/Site", *cluster.software.module_trees)


def session_environment(cluster: Cluster) -> dict[str, str]:
    """What a process must have in its environment for `module` to work in its shells."""
    root = modulefiles(cluster)
    return {
        "BASH_ENV": INIT,
        "LMOD_CMD": f"{LMOD}/libexec/lmod",  # for programs without a shell: JupyterLab's module tab
        "MODULEPATH_ROOT": root,
        "MODULEPATH": ":".join(paths(cluster)),
        "LMOD_RC": f"{root}/etc/lmodrc.lua",
        "LMOD_MODULERCFILE": f"{root}/etc/modulerc.lua",
        "LMOD_ADMIN_FILE": f"{root}/etc/admin.list",
        # a cell's `!module avail` has a terminal but nobody at its keys: a pager waits forever
        "LMOD_PAGER": "none",
    }


def profile(cluster: Cluster) -> str:
    """For login shells, sh, bash or zsh: where modulefiles are. What is set already stays."""
    lines = [f"    export {key}={shlex.quote(value)}"
             for key, value in session_environment(cluster).items()]  # fmt: skip
    return "\n".join(
        ["# Written by practicum: where modulefiles are. lmod.sh, read after this, does the rest.",
         'if [ -z "${MODULEPATH_ROOT:-}" ]; then', *lines, "fi", ""]
    )  # fmt: skip


def update() -> str:
    """A log-in shell inside a session or job has just got a PATH without the modules that its
    environment says are loaded: they are loaded anew. One that the admin removed meanwhile is
    named, and keeps neither the others nor the shell from coming up. For sh, bash and zsh."""
    return """# Written by practicum: modules that were loaded before this log-in shell began.
if [ -n "${LOADEDMODULES:-}" ] && type module >/dev/null 2>&1; then
    practicum_left=$LOADEDMODULES:
    module --quiet update >/dev/null 2>&1 || :
    while [ -n "$practicum_left" ]; do
        case ":${LOADEDMODULES:-}:" in
        *":${practicum_left%%:*}:"*) ;;
        *)
            echo "The module ${practicum_left%%:*} was loaded, and is not any more: it was" \\
                "removed or replaced. module avail shows what there is." >&2
            ;;
        esac
        practicum_left=${practicum_left#*:}
    done
    unset practicum_left
fi
"""


def shell_init() -> str:
    """For bash shells that are no login shells: the path, and the function."""
    return f"""# Written by practicum: makes `module` work in a bash that is no login shell.
. {PROFILE}
if [ -r {INIT} ] && ! declare -F module >/dev/null; then
    . {INIT}
fi
"""


def zsh_init() -> str:
    """For every zsh, scripts too."""
    return f"""# Written by practicum: makes `module` work in zsh, in scripts too.
. {PROFILE}
if [[ -r {LMOD}/init/zsh ]] && ! typeset -f module >/dev/null; then
    . {LMOD}/init/zsh
fi
"""


def csh_init(cluster: Cluster) -> str:
    """For every csh and tcsh that was not started with -f."""
    lines = [f"    setenv {key} {shlex.quote(value)}"
             for key, value in session_environment(cluster).items()]  # fmt: skip
    return "\n".join(
        ["# Written by practicum: makes `module` work in csh and tcsh, in scripts too.",
         "if ( ! $?MODULEPATH_ROOT ) then", *lines, "endif",
         f"if ( -r {LMOD}/init/csh ) source {LMOD}/init/csh", ""]
    )  # fmt: skip


def bashrc_line() -> str:
    return f"[ ! -r {SHELL_INIT} ] || . {SHELL_INIT}"


def zshenv_line() -> str:
    return f"[ ! -r {ZSH_INIT} ] || . {ZSH_INIT}"


def cshrc_line() -> str:
    return f"if ( -r {CSH_INIT} ) source {CSH_INIT}"


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
