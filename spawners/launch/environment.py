"""The environment of the server, its kernels and terminals."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path

from .node import LaunchError, node_name

# Slurm's, what process managers leave behind, and sudo's; all but SLURM_JOB_ID goes.
FOREIGN = re.compile(
    r"^(SLURM|SLURMD|SBATCH|SALLOC|SRUN|PMI|PMIX|SUDO)_|^(SLURM_JOBID|ENVIRONMENT|MAIL|_)$"
)
# pam_env(8) gives every log-in what stands there: a site's proxies and certificates.
SITE = "/etc/environment"
SITE_LINE = re.compile(r"""^\s*(?:export\s+)?([A-Za-z_]\w*)=(["']?)(.*?)\2\s*$""", re.MULTILINE)
BIN = "/usr/local/lib/practicum/bin"
OWN_JUPYTER = "/usr/local/lib/practicum/jupyter"  # the banner before the end
MODULES = "/usr/local/lib/practicum/modules.sh"  # makes `module` work in bash
MODULES_SECONDS = 30
PATHS = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"


def site_environment(path: str = SITE) -> dict[str, str]:
    """What the machine's administrator gives everybody; nothing when the file is not there."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {name: value for name, _, value in SITE_LINE.findall(text)}


def session_environment(
    account: pwd.struct_passwd,
    job: int,
    given: dict[str, str],
    folder: Path,
    jupyter_path: str,
    home_works: bool,
) -> dict[str, str]:
    """The environment of the server, its kernels and terminals, from the job's."""
    env = {name: value for name, value in os.environ.items() if not FOREIGN.search(name)}
    env.update(site_environment())
    env.update(
        HOME=account.pw_dir,
        USER=account.pw_name,
        LOGNAME=account.pw_name,
        SHELL=account.pw_shell or "/bin/sh",
        PATH=f"{BIN}:{PATHS}",
        JUPYTER_PATH=f"{jupyter_path}:{OWN_JUPYTER}",
        JUPYTER_RUNTIME_DIR=str(folder / "runtime"),
    )
    if job:  # a session on the login node is in none
        env.update(SLURM_JOB_ID=str(job), PRACTICUM_JOB_ID=str(job))
    env.setdefault("LANG", "C.UTF-8")
    if not home_works:
        # ipykernel stops when it cannot write there
        env["IPYTHONDIR"] = str(folder / "ipython")
    env.update(given)
    return env


def with_modules(env: dict[str, str], modules: list[str], init: str = MODULES) -> dict[str, str]:
    """The environment after `module load`, as a terminal would have it. LaunchError with what
    Lmod said when one cannot be loaded."""
    if not modules:
        return env
    load = '. "$0" && module load "$@" && exec env -0'
    try:
        done = subprocess.run(
            ["/bin/bash", "--norc", "-c", load, init, *modules],
            env=env,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=MODULES_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"the modules could not be loaded on {node_name()}: {error}") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:300]
        names = " ".join(modules)
        raise LaunchError(f"the modules {names} could not be loaded on {node_name()}: {said}")
    pairs = (item.partition("=") for item in os.fsdecode(done.stdout).split("\0") if item)
    loaded = {name: value for name, _, value in pairs if name != "_"}
    # for terminals, whose /etc/profile sets PATH anew
    return {**loaded, "PRACTICUM_MODULES": " ".join(modules)}
