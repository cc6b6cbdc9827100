"""What is put on the nodes: the launcher's own parts, and the wrappers run by a real shell."""

from __future__ import annotations

import io
import os
import pwd
import socket
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from spawners import role
from spawners.launch import environment, node, server

# --- wrappers -----------------------------------------------------------------------------------


@pytest.fixture
def wrapped(tmp_path: Path) -> Path:
    """The wrapper as srun, with a real program in its place that shows what it was given."""
    real = tmp_path / "real"
    real.mkdir()
    show = real / "srun"
    show.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\necho --\nexec /usr/bin/env\n")
    show.chmod(0o755)
    wrapper = tmp_path / "srun"
    wrapper.write_text(
        role.content("slurm-wrapper.sh").replace("/usr/bin/${0##*/}", f"{real}/${{0##*/}}")
    )
    wrapper.chmod(0o755)
    return wrapper


def called(wrapper: Path, env: dict[str, str], *args: str) -> tuple[list[str], dict[str, str]]:
    done = subprocess.run([wrapper, *args], env=env, capture_output=True, text=True, check=True)
    given, _, rest = done.stdout.partition("--\n")
    pairs = (line.partition("=") for line in rest.splitlines() if "=" in line)
    return given.splitlines(), {name: value for name, _, value in pairs}


LEAKS = {
    "SLURM_JOB_ID": "7", "SLURM_JOBID": "7", "SLURM_NTASKS": "1", "SLURM_MEM_PER_NODE": "300",
    "SLURMD_NODENAME": "node01", "PMI_RANK": "0", "PMIX_RANK": "0",
    "JUPYTERHUB_API_TOKEN": "secret", "JPY_API_TOKEN": "secret", "JUPYTER_RUNTIME_DIR": "/tmp/x",
}  # fmt: skip
OWN = {"SBATCH_PARTITION": "gpu", "SLURM_CONF": "/etc/s.conf", "MY_SLURM_X": "1", "LANG": "C",
       "PMIXED": "1"}  # fmt: skip


def test_in_the_session_nothing_of_its_job_leaks(wrapped: Path) -> None:
    env = {**LEAKS, **OWN, "PRACTICUM_JOB_ID": "7", "TEXT": "a\nSLURM_FAKE=1"}
    given, seen = called(wrapped, env, "-N2", "a b", "$(x)", "")
    assert given == ["-N2", "a b", "$(x)", ""]
    assert not set(LEAKS) & set(seen)
    assert OWN.items() <= seen.items()


@pytest.mark.parametrize("job", [{"PRACTICUM_JOB_ID": "6"}, {}, {"PRACTICUM_JOB_ID": ""}])
def test_in_another_job_all_passes_through(wrapped: Path, job: dict[str, str]) -> None:
    _, seen = called(wrapped, {**LEAKS, **OWN, **job})
    assert (LEAKS | OWN | job).items() <= seen.items()


def test_the_real_commands_exit_code_is_kept(wrapped: Path) -> None:
    (wrapped.parent / "real" / "srun").write_text("#!/bin/sh\nexit 42\n")
    assert subprocess.run([wrapped], check=False).returncode == 42


def test_a_log_in_shell_finds_the_wrappers_first_in_a_session_only() -> None:
    text = role.content("profile.sh") + 'printf %s "$PATH"'
    for env, expected in (
        ({"PATH": "/usr/bin"}, "/usr/bin"),
        ({"PATH": "/usr/bin", "PRACTICUM_JOB_ID": "7"}, "/usr/local/lib/practicum/bin:/usr/bin"),
        ({"PATH": "/usr/local/lib/practicum/bin:/x", "PRACTICUM_JOB_ID": "7"},
         "/usr/local/lib/practicum/bin:/x"),
    ):  # fmt: skip
        done = subprocess.run(["/bin/sh", "-c", text], env=env, capture_output=True, check=True)
        assert done.stdout.decode() == expected


# --- the launcher's parts -----------------------------------------------------------------------


def test_the_environment_of_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**LEAKS, "SALLOC_X": "1", "SRUN_DEBUG": "3",
                                        "SBATCH_X": "1", "SUDO_USER": "practicum-hub",
                                        "CUDA_VISIBLE_DEVICES": "0"})  # fmt: skip
    account = pwd.getpwnam("root")
    env = environment.session_environment(
        account, 7, {"JUPYTERHUB_USER": "root"}, Path("/tmp/p"), "/nfs/envs/jupyter", True
    )
    assert {name for name in env if "SLURM" in name or "PMI" in name or "SUDO" in name} == {
        "SLURM_JOB_ID"
    }
    assert env["SLURM_JOB_ID"] == env["PRACTICUM_JOB_ID"] == "7"
    assert env["PATH"].startswith("/usr/local/lib/practicum/bin:/usr/local/bin:")
    assert env["CUDA_VISIBLE_DEVICES"] == "0" and env["JUPYTERHUB_USER"] == "root"
    assert env["HOME"] == account.pw_dir and "IPYTHONDIR" not in env


def test_the_sites_environment_is_everybodys(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_text('A="x y"\n# B=1\nexport C=\'z\'\n D=a=b \nnonsense\nE=\n1F=2\nG="open\n')
    assert environment.site_environment(str(path)) == {
        "A": "x y", "C": "z", "D": "a=b", "E": "", "G": '"open'
    }  # fmt: skip
    assert environment.site_environment(str(tmp_path / "none")) == {}


def test_a_full_home_moves_what_must_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    account = pwd.getpwnam("root")
    env = environment.session_environment(account, 7, {}, Path("/tmp/p"), "/j", False)
    assert env["IPYTHONDIR"] == "/tmp/p/ipython"
    assert server.server_arguments(["--x"], Path("/tmp/p"), False) == [
        "--NotebookNotary.data_dir=/tmp/p/notary", "--x"
    ]  # fmt: skip


def test_a_port_is_kept_from_the_moment_it_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(node.LaunchError, match=f"no port from {taken} to {taken} is free"):
            node.listen(taken, taken)
        found = node.listen(taken - 3, taken)
        with found:
            port = found.getsockname()[1]
            assert taken - 3 <= port < taken
            with pytest.raises(node.LaunchError):
                node.listen(port, port)


def test_the_folder_is_ours_alone(tmp_path: Path) -> None:
    folder = node.runtime_folder(str(tmp_path), os.getuid(), 7)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert node.runtime_folder(str(tmp_path), os.getuid(), 7) == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (tmp_path / "practicum-5-8").mkdir()
    with pytest.raises(node.LaunchError, match="belongs to somebody else"):
        node.runtime_folder(str(tmp_path), 5, 8)
    (tmp_path / f"practicum-{os.getuid()}-9").symlink_to(folder)
    with pytest.raises(node.LaunchError, match="belongs to somebody else"):
        node.runtime_folder(str(tmp_path), os.getuid(), 9)
    with pytest.raises(node.LaunchError, match="no folder can be made in /no/such"):
        node.runtime_folder("/no/such", 1, 1)


def test_a_missing_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert node.check_home(str(tmp_path)) is True
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(node.LaunchError, match="your home folder /no/home cannot be opened"):
        node.check_home("/no/home")
    assert node.check_home("/proc") is False  # nobody can write there


def test_a_missing_environment_is_told() -> None:
    with pytest.raises(node.LaunchError, match=r"/nfs/envs/server/current is missing or incompl"):
        node.check_environment("/nfs/envs/server")


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one file, as it is on the nodes."""
    path = tmp_path_factory.mktemp("launcher") / "launcher.py"
    path.write_bytes(role.launcher())
    return path


def test_without_munge_the_exit_code_tells(launcher: Path, tmp_path: Path) -> None:
    options = {
        "hub-url": "http://127.0.0.1:9/hub/api", "hub-uid": "0", "ports": "20000-29999",
        "jupyter-path": "/j", "server-env": "/no/env", "tmp": str(tmp_path), "munge": "/no/munge",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-I", launcher, *(f"--{name}={value}" for name, value in options.items())],
        env={"SLURM_JOB_ID": "7"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 70
    log = (tmp_path / f"practicum-{os.getuid()}-7" / "session.log").read_text()
    assert "/no/env/current is missing or incomplete" in log
    assert "munge does not work on" in log


def test_outside_a_job_it_says_what_it_is(launcher: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", launcher, "--hub-url=x", "--hub-uid=0", "--ports=1-2",
         "--jupyter-path=x", "--server-env=x"],
        env={}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Slurm runs it" in done.stderr


def test_the_launcher_needs_nothing_but_the_standard_library() -> None:
    """And nothing newer than Python 3.9 has. What is in functions is the server's."""
    import ast

    assert role.launcher() == role.launcher()
    packed = zipfile.ZipFile(io.BytesIO(role.launcher()))
    for name in packed.namelist():
        tree = ast.parse(packed.read(name), feature_version=(3, 9))
        top = [part for part in tree.body if isinstance(part, ast.Import | ast.ImportFrom)]
        names = {alias.name for part in top if isinstance(part, ast.Import) for alias in part.names}
        names |= {
            part.module or "" for part in top if isinstance(part, ast.ImportFrom) if not part.level
        }
        known = {*sys.stdlib_module_names, "practicum_launcher"}
        assert {one.split(".")[0] for one in names} <= known, name
