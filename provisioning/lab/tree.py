"""Guest trees: a distribution in a directory, made once, kept in the cache, never booted itself.

A tree is built beside its place and renamed into it, so that one that is there is whole.
Two layers: the bare system, and a copy of it with every package that the roles will ask for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError
from provisioning.lab import fill, mirrors, settings
from provisioning.lab.system import CACHE, locked, remove_tree, run, run_logged, write

TREES = CACHE / "trees"
LOGS = CACHE / "logs"
ROOT = Path(__file__).resolve().parents[2]  # what `provisioning` is imported from
# Changes whenever what is done to a tree changes, so that old ones are not used again.
RECIPE = 2
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "sudo", "ca-certificates",
    "iproute2", "iputils-ping", "tzdata", "procps", "kmod",
)  # fmt: skip
# A key that a package made for itself must not be everyone's; and what the engine noted down
# about the image would read, on a node, as things that it should have and no role wants.
FORGOTTEN = ("etc/munge/munge.key", "var/lib/practicum")
# Nothing in a container needs these, and each costs start time or talks to the network.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "fstrim.timer", "man-db.timer", "motd-news.timer", "console-getty.service",
    "container-getty@.service", "getty.target", "systemd-resolved.service",
    "systemd-networkd-wait-online.service", "systemd-udevd.service", "e2scrub_reap.service",
    "systemd-remount-fs.service", "dev-hugepages.mount", "systemd-timesyncd.service",
)  # fmt: skip


@dataclass(frozen=True)
class Guest:
    """A system that a lab's nodes can run."""

    name: str
    suite: str
    family: str  # debian or ubuntu
    script: str  # debootstrap's, where it has none of the suite's own name

    @property
    def components(self) -> str:
        return "main" if self.family == "debian" else "main,universe"


GUESTS = {
    "debian12": Guest("debian12", "bookworm", "debian", "sid"),
    "debian13": Guest("debian13", "trixie", "debian", "sid"),
    "ubuntu24.04": Guest("ubuntu24.04", "noble", "ubuntu", "gutsy"),
}
KEYRINGS = {
    "debian": Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    "ubuntu": Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg"),
}


Say = Callable[[str], None]


def digest(*parts: object) -> str:
    """Ten characters that stand for these values."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:10]


def base_tree(guest: Guest, say: Say) -> Path:
    """The bare system, built if it is not there. PracticumError when no registry answers."""
    recipe = digest(RECIPE, guest.suite, PACKAGES, MASKED, settings.has_own_certificates())
    place = TREES / f"{guest.name}-{recipe}"
    with locked(f"tree-{place.name}", wait=1800, busy=f"{place} is being built by someone else"):
        if not place.is_dir():
            build(place, lambda root: _bootstrap(guest, root, say))
    return place


def bare_machine(guest: Guest, root: Path, packages: Sequence[str], say: Say) -> None:
    """Make ``root`` a machine that boots, with those packages and what they cannot be without:
    not a node but a host, for tests of what a first ``make lab`` needs. Not kept."""
    build(root, lambda place: _bootstrap(guest, place, say, packages))


def package_tree(
    guest: Guest, base: Path, resources: Sequence[Mapping[str, Any]], say: Say
) -> Path:
    """A copy of ``base`` with these resources (wire forms of packages and system accounts)
    put there by the engine, in image mode."""
    place = TREES / f"{base.name}-{digest(RECIPE, resources)}"
    busy = f"{place} is being built by someone else"
    with (
        locked(f"tree-{base.name}", wait=1800, busy=busy),
        locked(f"tree-{place.name}", wait=1800, busy=busy),
    ):
        if not place.is_dir():
            say("installing the roles' packages in a copy of it")
            build(place, lambda root: _copy_and_install(guest, base, root, resources, say))
    return place


def build(place: Path, fill: Callable[[Path], None]) -> None:
    """Make a directory by ``fill`` under another name, then rename it: whole or not there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(place)
    root = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    root.chmod(0o755)
    try:
        fill(root)
        os.sync()
        root.rename(place)
    except BaseException:
        remove_tree(root)
        raise


def _remove_unfinished(place: Path) -> None:
    """What builders that were killed left; only for the one who holds the place's lock."""
    for stale in place.parent.glob(f".{place.name}.*"):
        remove_tree(stale)


def remove_stale() -> None:
    """Remove what killed builders left, of every tree that nobody is building now."""
    for name in {path.name[1:].rpartition(".")[0] for path in TREES.glob(".*.*")}:
        with (
            contextlib.suppress(PracticumError),
            locked(f"tree-{name}", wait=0, busy=f"tree {name} is being built"),
        ):
            _remove_unfinished(TREES / name)


def _copy_and_install(
    guest: Guest, base: Path, root: Path, resources: Sequence[Mapping[str, Any]], say: Say
) -> None:
    run(["cp", "-a", "--reflink=auto", f"{base}/.", str(root)], timeout=600)
    with _can_install(root):
        run_logged(
            [sys.executable, "-P", fill.__file__, str(root)], _log(guest),
            stdin=json.dumps(resources),
            timeout=1800, env={**_apt_environment(), "PYTHONPATH": str(ROOT)}, watch=say,
        )  # fmt: skip
        run_logged(["chroot", str(root), "apt-get", "clean"], _log(guest), timeout=60)
    leave_stopped(base, root)
    for name in FORGOTTEN:
        remove_tree(root / name)


def leave_stopped(base: Path, root: Path) -> None:
    """Disable the services that packages of the upper layer enabled: every node has every
    package, and which services it runs is for its roles to say."""
    wants = Path("etc/systemd/system/multi-user.target.wants")
    before = {path.name for path in (base / wants).glob("*.service")}
    added = sorted(
        path.name for path in (root / wants).glob("*.service") if path.name not in before
    )
    if added:
        run(["systemctl", f"--root={root}", "disable", *added], timeout=60)


def _bootstrap(guest: Guest, root: Path, say: Say, packages: Sequence[str] = PACKAGES) -> None:
    settings_of_apt = mirrors.apt_settings()
    ask = mirrors.opener(settings_of_apt)
    sources = mirrors.host_sources()
    machine = platform.machine()

    def mirror(kind: str, suite: str) -> str:
        return mirrors.first_answering(
            mirrors.candidates(kind, sources, machine), suite,
            lambda address, name: mirrors.answers(ask, address, name),
        )  # fmt: skip

    main = mirror(guest.family, guest.suite)
    security = main
    if guest.family == "debian":
        security = mirror("debian-security", f"{guest.suite}-security")
    log = _log(guest)
    say(f"making a {guest.suite} tree from {main}")
    own_script = Path(f"/usr/share/debootstrap/scripts/{guest.suite}").exists()
    with tempfile.TemporaryDirectory(prefix=f"{root.name}-", dir=root.parent) as scratch:
        keyring = _keyring(guest, Path(scratch), mirror)
        argv = [
            "debootstrap", "--variant=minbase", f"--components={guest.components}",
            f"--include={','.join(packages)}", f"--keyring={keyring}",
            guest.suite, str(root), main, *([] if own_script else [guest.script]),
        ]  # fmt: skip
        run_logged(argv, log, timeout=1500, env=_apt_environment(), watch=say)
    _configure(guest, root, main, security, settings_of_apt)
    say("bringing the tree up to date")
    with _can_install(root):
        for argv in (
            ["apt-get", "-q", "update"],
            ["apt-get", "-q", "--yes", "dist-upgrade"],
            ["apt-get", "clean"],
            ["update-ca-certificates", "--fresh"],
        ):
            run_logged(
                ["chroot", str(root), *argv], log, timeout=900, env=_apt_environment(), watch=say
            )


def _apt_environment() -> dict[str, str]:
    keep = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        **{name: os.environ[name] for name in keep if name in os.environ},
    }


def _log(guest: Guest) -> Path:
    LOGS.mkdir(parents=True, exist_ok=True)
    return LOGS / f"{guest.name}.log"


@contextlib.contextmanager
def _can_install(root: Path) -> Iterator[None]:
    """While this holds, a command in the tree finds the registries and starts no services."""
    policy = root / "usr/sbin/policy-rc.d"
    write(policy, "#!/bin/sh\nexit 101\n", 0o755)
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    write(resolver, Path("/etc/resolv.conf").read_text())
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def _keyring(guest: Guest, scratch: Path, mirror: Callable[[str, str], str]) -> Path:
    """The archive's keys. Ubuntu's come from Debian's own `ubuntu-keyring`, which apt verifies
    with Debian's keys, where this machine does not have them."""
    keyring = KEYRINGS[guest.family]
    if keyring.is_file():
        return keyring
    if guest.family == "debian":
        raise PracticumError(f"{keyring} is missing: apt-get install debian-archive-keyring")
    source = f"deb [signed-by={KEYRINGS['debian']}] {mirror('debian', 'trixie')} trixie main\n"
    for name in ("etc/preferences.d", "state/lists/partial", "cache/archives/partial"):
        (scratch / name).mkdir(parents=True)
    write(scratch / "etc/sources.list", source)
    folders = {"Etc": "etc", "State": "state", "Cache": "cache"}
    options = [f"--option=Dir::{key}={scratch / name}" for key, name in folders.items()]
    options += ["--option=Dir::State::status=/dev/null", "--option=APT::Sandbox::User=root"]
    options += [f"--option={key}={value}" for key, value in mirrors.apt_settings().items()]
    run(["apt-get", *options, "update"], timeout=300, env=_apt_environment())
    fetch = ["apt-get", *options, "download", "ubuntu-keyring"]
    run(fetch, timeout=300, env=_apt_environment(), cwd=scratch)
    package = next(scratch.glob("ubuntu-keyring_*.deb"))
    run(["dpkg-deb", "--extract", str(package), str(scratch / "keys")], timeout=60)
    return scratch / "keys" / str(keyring).lstrip("/")


def _sources(guest: Guest, main: str, security: str) -> str:
    suites = [
        (main, guest.suite),
        (main, f"{guest.suite}-updates"),
        (security, f"{guest.suite}-security"),
    ]
    components = guest.components.replace(",", " ")
    return "".join(f"deb {mirror} {suite} {components}\n" for mirror, suite in suites)


def _configure(
    guest: Guest, root: Path, main: str, security: str, settings_of_apt: dict[str, str]
) -> None:
    write(root / "etc/apt/sources.list", _sources(guest, main, security))
    for leftover in (root / "etc/apt/sources.list.d").glob("*"):
        leftover.unlink()
    lines = "".join(f'{key} "{value}";\n' for key, value in settings_of_apt.items())
    write(root / "etc/apt/apt.conf.d/90practicum-lab", lines)
    # A tree that is lost is made again: no need to wait for the disk after every file.
    write(root / "etc/dpkg/dpkg.cfg.d/practicum-lab", "force-unsafe-io\n")
    own = settings.has_own_certificates()
    if own:
        settings.copy_certificates(root)
        settings.copy_bundle(root)
    write(
        root / "etc/pip.conf",
        settings.pip_conf(settings.read_all(settings.PIP_FILES), os.environ, own),
    )
    write(root / "etc/npmrc", settings.npmrc(settings.read_all(settings.NPM_FILES), own))
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()  # every node gets its own
    write(root / "etc/machine-id", "")
    write(root / "etc/default/locale", "LANG=C.UTF-8\n")
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    systemctl = ["systemctl", f"--root={root}"]
    run([*systemctl, "set-default", "multi-user.target"], timeout=60)
    if (root / "usr/lib/systemd/system/ssh.socket").exists():
        run([*systemctl, "disable", "ssh.socket"], timeout=60)  # Ubuntu's way in
    run([*systemctl, "enable", "systemd-networkd.service"], timeout=60)
    if (root / "usr/sbin/sshd").exists():
        run([*systemctl, "enable", "ssh.service"], timeout=60)


def prune(keep: Iterable[Path], beginning: str = "") -> None:
    """Remove trees that no lab stands on and nobody is building or copying now; only those
    whose names have that beginning."""
    kept = set(keep)
    for place in TREES.glob(f"{beginning}*"):
        if place in kept or place.name.startswith("."):
            continue
        with (
            contextlib.suppress(PracticumError),
            locked(f"tree-{place.name}", wait=0, busy=f"{place} is being used"),
        ):
            remove_tree(place)


def purge_caches() -> None:
    """Remove everything that labs keep between them."""
    if CACHE.is_dir():
        remove_tree(CACHE)
        shutil.rmtree(CACHE, ignore_errors=True)
