"""`module` in shells, and what the role puts where."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hub_sample import context, sample

from lmod import role, shells
from provisioning.resources import File, Line, Package

needs_lmod = pytest.mark.skipif(not Path(shells.INIT).exists(), reason="lmod is not installed")


def test_what_is_set_already_stays(tmp_path: Path) -> None:
    path = tmp_path / "profile.sh"
    path.write_text(shells.profile(sample()))
    script = f'. {path}; echo "$MODULEPATH_ROOT $MODULEPATH"'
    clean = {"PATH": "/usr/bin:/bin"}
    mine = {**clean, "MODULEPATH_ROOT": "/r", "MODULEPATH": "/mine"}
    root = "/nfs/apps/modulefiles"
    for shell in ("sh", "bash"):
        for env, expected in (
            (clean, [root, f"{root}/Core:{root}/Site"]),
            (mine, ["/r", "/mine"]),
        ):
            said = subprocess.run([shell, "-c", script], env=env, capture_output=True, check=True)
            assert said.stdout.decode().split() == expected


def test_other_peoples_trees_come_after_our_own() -> None:
    cluster = sample(software={"module_trees": ["/nfs/apps/easybuild/modules/all"]})
    assert shells.paths(cluster)[-1] == "/nfs/apps/easybuild/modules/all"
    assert "setenv MODULEPATH /nfs/apps/modulefiles/Core:" in shells.csh_init(cluster)


def test_modules_are_written_once_and_shells_set_up_everywhere() -> None:
    cluster = sample()
    shells_role, modules_role, *_ = role.ROLES
    assert [n.name for n in cluster.machines if modules_role.where(cluster, n)] == ["login"]
    assert all(shells_role.where(cluster, node) for node in cluster.machines)
    written = [item.path for item in role.published(context()) if isinstance(item, File)]
    assert [path for path in written if path.endswith(".lua") and "/etc/" not in path] == [
        "/nfs/apps/modulefiles/Core/gcc/12.2.0.lua",
        "/nfs/apps/modulefiles/Core/python/3.11.lua",
        "/nfs/apps/modulefiles/Compiler/gcc/12.2.0/openmpi/4.1.4.lua",
    ]


def test_a_shell_that_somebody_has_is_installed_and_set_up() -> None:
    def set_up(shell: str) -> tuple[set[str], set[str]]:
        users = [{"name": "ada", "uid": 2100, "groups": ["students"], "shell": shell}]
        found = role.shell_set_up(context(cluster=sample(users=users)))
        packages = {item.package for item in found if isinstance(item, Package)}
        return packages - {"lmod"}, {item.path for item in found if isinstance(item, Line)}

    assert set_up("/bin/bash") == (set(), {"/etc/bash.bashrc"})
    assert set_up("/bin/zsh") == ({"zsh"}, {"/etc/bash.bashrc", "/etc/zsh/zshenv"})
    assert set_up("/bin/csh") == ({"tcsh"}, {"/etc/bash.bashrc", "/etc/csh.cshrc"})


def test_packages_of_modules_and_of_the_software_list_are_everywhere() -> None:
    cluster = sample(
        software={"packages": ["valgrind"]},
        modules=[{"name": "espresso", "version": "6.7", "packages": ["quantum-espresso"]}],
    )
    for node in ("login", "node02"):
        found = role.shell_set_up(context(node, cluster))
        packages = {item.package for item in found if isinstance(item, Package)}
        assert packages == {"lmod", "valgrind", "quantum-espresso"}


def test_shell_files_are_valid_bash() -> None:
    for text in (shells.shell_init(), shells.command(), shells.bashrc_line(), shells.update()):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def in_a_session(tree: Path, *names: str, script: str) -> subprocess.CompletedProcess[str]:
    """``script`` in bash with modules of these names in ``tree``, which put /opt/NAME first in PATH;
    TREE is the folder, and UPDATE the file that a shell inside a session reads."""
    for name in names:
        (tree / name).mkdir()
        (tree / name / "1.lua").write_text(f'prepend_path("PATH", "/opt/{name}")')
    update = tree / "update.sh"
    update.write_text(shells.update())
    return subprocess.run(
        ["bash", "-c", script.replace("TREE", str(tree)).replace("UPDATE", str(update))],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tree), "BASH_ENV": shells.INIT,
             "MODULEPATH": str(tree), "MODULEPATH_ROOT": str(tree)},
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip


@needs_lmod
def test_a_login_shell_inside_a_session_has_its_modules_again(tmp_path: Path) -> None:
    inner = f"PATH=/usr/bin:/bin bash -c '. {shells.INIT}; . UPDATE; echo $PATH'"
    script = f"module load tool; {inner}; rm TREE/tool/1.lua; {inner}"
    done = in_a_session(tmp_path, "tool", script=script)
    assert done.stdout.split() == ["/opt/tool:/usr/bin:/bin", "/usr/bin:/bin"]
    # one that the admin has removed meanwhile is named, once, and keeps no shell from coming up
    assert done.stderr == (
        "The module tool/1 was loaded, and is not any more: it was removed or replaced. "
        "module avail shows what there is.\n"
    )


@needs_lmod
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_of_several_modules_only_the_one_that_is_gone_is_missing(
    tmp_path: Path, shell: str
) -> None:
    inner = f". {Path(shells.INIT).with_name('sh')}; . UPDATE; echo $PATH"
    script = (
        f"module load first tool last; rm TREE/tool/1.lua; PATH=/usr/bin:/bin {shell} -c '{inner}'"
    )
    done = in_a_session(tmp_path, "first", "tool", "last", script=script)
    assert done.stdout.split() == ["/opt/last:/opt/first:/usr/bin:/bin"]
    assert re.findall(r"The module (\S+) was loaded", done.stderr) == ["tool/1"]
