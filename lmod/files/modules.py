#!/usr/bin/python3
"""Modulefiles on the node that publishes them: checked by Lmod, and their cache. Stdlib only.

    modules.py check --as NAME/VERSION [--under M]... [--with M]... FILE
                           exit 1, and one sentence, if Lmod does not load FILE as that module
    modules.py put [...as check...]        the same with standard input; then it is published
    modules.py drop NAME/VERSION           take away one that `put` published
    modules.py refresh [--if-changed]      make the spider cache anew, in one step
    modules.py state                       JSON: whether the cache is as new as the tree, which
                                           modulefiles Lmod cannot read, which `put` published

SETTINGS (JSON, written by a role) says where all of that is: ``root``, ``paths`` (MODULEPATH) and
``init`` (Lmod's for bash). Modulefiles are programs, and some trees are other people's: whatever
evaluates them runs as nobody.

Lmod takes what the cache says for the truth while ``cache/timestamp`` is not newer than it. So a
refresh touches that first (from then on Lmod walks the tree itself, which is right and slower),
and moves the link ``cache/current`` when the new cache is whole.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/practicum/modules.json")
LOCK = Path("/run/practicum-modules.lock")
WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_+-]|\.[A-Za-z0-9_+-])*"
FULL = re.compile(rf"{WORD}/{WORD}")
NAME = re.compile(rf"{WORD}(?:/{WORD})*")
CHECK_SECONDS = 40
SPIDER_SECONDS = 600
LARGEST = 1_000_000  # bytes of a modulefile
SHOWN = 20  # broken modulefiles that are named
# Loads the candidate as a person would: below what it needs, and then away again.
TRIAL = """
unset -f module ml
. "$INIT" >/dev/null
for each in $BEFORE; do
    module load "$each" || { echo "@before $each" >&2; exit 1; }
done
module use "$PLACE" && module load "$WANTED" || exit 1
module -t list 2>&1 | grep -qxF -- "$WANTED" || { echo "@absent" >&2; exit 1; }
module unload "$WANTED"
"""


class Trouble(Exception):  # noqa: N818
    """One sentence for the admin."""


class Tree:
    """The published modulefiles, as the settings describe them."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.root = Path(settings["root"])
        self.paths = [str(path) for path in settings["paths"]]
        self.init = str(settings["init"])
        self.cache = self.root / "cache"
        self.site = self.root / "Site"

    def environment(self) -> dict[str, str]:
        """Of commands that evaluate modulefiles: no cache, nobody's own settings."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "LANG": "C.UTF-8",
            "LMOD_IGNORE_CACHE": "yes",
            "LMOD_PAGER": "none",
            "LMOD_COLORIZE": "no",
            "LMOD_MODULERCFILE": str(self.root / "etc/modulerc.lua"),
            "MODULEPATH_ROOT": str(self.root),
            "MODULEPATH": ":".join(self.paths),
            "INIT": self.init,
        }

    @property
    def lmod(self) -> Path:
        """Lmod's folder: init/bash is in it."""
        return Path(self.init).parent.parent

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every file of the tree. Each folder once, whatever links there are."""
        seen: set[tuple[int, int]] = set()
        tops = [str(self.root / name) for name in ("Core", "Compiler", "MPI", "Site")]
        for top in dict.fromkeys([*tops, *self.paths]):
            for folder, inner, names in os.walk(top, followlinks=True):
                status = Path(folder).stat()
                if (status.st_dev, status.st_ino) in seen:
                    inner.clear()
                    continue
                seen.add((status.st_dev, status.st_ino))
                inner[:] = sorted(name for name in inner if not name.startswith("."))
                for name in sorted(names):
                    with contextlib.suppress(OSError):  # taken away meanwhile, or a dead link
                        yield f"{folder}/{name}", Path(folder, name).stat()

    def mark(self) -> str:
        """Changes when any file of the tree does."""
        known = hashlib.sha256(json.dumps(self.paths).encode())
        for path, status in self.files():
            known.update(f"{path}\0{status.st_mtime_ns}\0{status.st_size}\n".encode())
        return known.hexdigest()[:24]

    def made_from(self) -> str:
        """The mark of the tree that the live cache was made from; "" if there is none."""
        try:
            return (self.cache / "current/mark").read_text().strip()
        except OSError:
            return ""


def run(argv: Sequence[str], env: dict[str, str], limit: float) -> subprocess.CompletedProcess[str]:
    """As nobody, where we are root. Trouble when it does not end in time."""
    who = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            list(argv), env=env, text=True, errors="replace", capture_output=True,
            stdin=subprocess.DEVNULL, timeout=limit, check=False, cwd="/", **who,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Trouble(f"it did not end within {limit:.0f} s: does it wait for itself?") from None
    except OSError as error:
        raise Trouble(f"{argv[0]} cannot be run: {error.strerror}") from None


def words_of(said: str) -> str:
    """Lmod's message in one line, without its frame."""
    kept: list[str] = []
    for line in map(str.strip, said.splitlines()):
        if line.startswith(("While processing", "Module fullname", "Please check", "---")):
            break
        kept.append(line.replace("Lmod has detected the following error:", "").strip())
    return re.sub(r"\s+", " ", " ".join(kept)).strip(" .")[:400] or "Lmod does not say why"


def check(tree: Tree, full: str, before: Sequence[str], path: Path) -> None:
    """Trouble unless Lmod loads the file as that module, and unloads it."""
    named(full)
    for name in before:
        if not NAME.fullmatch(name):
            raise Trouble(f"{name} is not the name of a module")
    if path.stat().st_size > LARGEST:
        raise Trouble(f"{full} is larger than {LARGEST} bytes: is it a modulefile?")
    with tempfile.TemporaryDirectory(prefix="practicum-module-") as place:
        target = Path(place) / f"{full}.lua"
        target.parent.mkdir()
        shutil.copyfile(path, target)
        for one in (Path(place), target.parent):
            one.chmod(0o755)
        target.chmod(0o644)
        env = tree.environment()
        env.update(BEFORE=" ".join(before), PLACE=place, WANTED=full)
        done = run(["bash", "-c", TRIAL], env, CHECK_SECONDS)
        said = done.stderr.replace(str(target), f"{full}.lua").replace(place, "")
    if done.returncode == 0 and "Lmod has detected the following error" not in said:
        return
    missing = re.search(r"^@before (\S+)$", said, re.MULTILINE)
    if missing:
        raise Trouble(
            f"{full} needs {missing[1]}, which cannot be loaded: "
            f"{words_of(said.replace(missing[0], ''))}"
        )
    if "@absent" in said:
        raise Trouble(f"{full} is not loaded after it was loaded: it unloads itself")
    raise Trouble(f"Lmod does not load {full}: {words_of(said)}")


def named(full: str) -> None:
    if not FULL.fullmatch(full):
        raise Trouble(
            f"{full} is no name for a module: NAME/VERSION of A-Z a-z 0-9 . _ + -, without .."
        )


def put(tree: Tree, full: str, before: Sequence[str], text: str) -> str:
    """Publish one that was written by hand."""
    named(full)
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        check(tree, full, before, Path(stream.name))
    target = tree.site / f"{full}.lua"
    target.parent.mkdir(exist_ok=True)
    target.parent.chmod(0o755)
    fresh = target.with_name(f".{target.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(target)
    return f"{full} is published; {refresh(tree)}"


def drop(tree: Tree, full: str) -> str:
    """Take away one that was put. Whoever has loaded it keeps what it set."""
    named(full)
    target = tree.site / f"{full}.lua"
    try:
        target.unlink()
    except FileNotFoundError:
        raise Trouble(f"there is no {full} among the modulefiles written by hand") from None
    with contextlib.suppress(OSError):  # another version is in there
        target.parent.rmdir()
    return f"{full} is gone; {refresh(tree)}"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One refresh at a time; the other's own limits end the wait."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def refresh(tree: Tree, *, if_changed: bool = False) -> str:
    """The cache made anew and put in place in one step."""
    with alone():
        mark = tree.mark()
        if if_changed and mark == tree.made_from():
            return "the cache is as new as the modulefiles"
        tree.cache.mkdir(mode=0o755, exist_ok=True)
        stamp = tree.cache / "timestamp"
        stamp.touch(0o644)
        os.utime(stamp)  # the old cache counts no longer
        # A cache of the same second as the stamp is valid, so the stamp must be the older one.
        began = time.time()
        text, broken = spider(tree), unreadable(tree)
        name = f"{int(began)}-{mark[:8]}"
        fresh = tree.cache / f".{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o755)
        for file, content in (
            ("spiderT.lua", text),
            ("mark", f"{mark}\n"),
            ("broken.json", json.dumps(broken) + "\n"),
        ):
            (fresh / file).write_text(content, encoding="utf-8")
            (fresh / file).chmod(0o644)
        target = tree.cache / name
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
        link = tree.cache / ".current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        live = tree.cache / "current"
        before = live.readlink().name if live.is_symlink() else ""
        link.replace(live)
        tidy(tree, {name, before})
    count = len(re.findall(r"^\s+fn = ", text, re.MULTILINE))
    said = f"the cache of {count} module{'' if count == 1 else 's'} is new"
    if broken:
        said += f"; Lmod cannot read {', '.join(sorted(broken)[:SHOWN])}"
    return said


def tidy(tree: Tree, kept: set[str]) -> None:
    """The one before stays: somebody may be reading it."""
    for path in tree.cache.iterdir():
        if re.fullmatch(r"\.?[0-9]+-[0-9a-f]{8}(\.new)?", path.name) and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def spider(tree: Tree) -> str:
    """The cache's text. Trouble if there is none."""
    tool = tree.lmod / "libexec/spider"
    done = run([str(tool), "-o", "spiderT", ":".join(tree.paths)], tree.environment(),
               SPIDER_SECONDS)  # fmt: skip
    if done.returncode != 0 or "spiderT" not in done.stdout:
        raise Trouble(
            f"Lmod makes no cache of {tree.root} ({words_of(done.stderr)}): modules work without "
            "it, and are listed more slowly"
        )
    return done.stdout


def unreadable(tree: Tree) -> dict[str, str]:
    """Modulefiles with a fault, and what Lmod says of each: they may be other people's, so that
    they keep nothing from being published."""
    tool = tree.lmod / "libexec/check_module_tree_syntax"
    done = run([str(tool), ":".join(tree.paths)], tree.environment(), SPIDER_SECONDS)
    found = re.findall(
        r"ModuleName: \S+, Fn: (\S+) Error: (.*?)(?=\n\s*ModuleName:|\n\s*\n|\Z)",
        done.stderr,
        re.DOTALL,
    )
    return {path: re.sub(r"\s+", " ", said).strip()[:300] for path, said in found}


def state(tree: Tree) -> dict[str, Any]:
    try:
        broken = json.loads((tree.cache / "current/broken.json").read_text())
    except (OSError, ValueError):
        broken = {}
    found = tree.site.glob("*/*.lua")
    site = sorted(f"{path.parent.name}/{path.stem}" for path in found)
    return {"current": tree.made_from() == tree.mark(), "broken": broken, "site": site}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Publish modulefiles.")
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("check", "put"):
        part = actions.add_parser(name)
        part.add_argument("--as", dest="full", required=True)
        part.add_argument("--under", action="append", default=[])
        part.add_argument("--with", dest="along", action="append", default=[])
        if name == "check":
            part.add_argument("file", type=Path)
    actions.add_parser("drop").add_argument("full")
    actions.add_parser("refresh").add_argument("--if-changed", action="store_true")
    actions.add_parser("state")
    options = parser.parse_args(list(argv))
    os.umask(0o022)
    try:
        tree = Tree(json.loads(options.settings.read_text()))
        said = act(tree, options)
    except (Trouble, OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    if said:
        print(said)  # noqa: T201
    return 0


def act(tree: Tree, options: argparse.Namespace) -> str:
    if options.action in ("check", "put"):
        before = [*options.under, *options.along]
        if options.action == "check":
            check(tree, options.full, before, options.file)
            return ""
        return put(tree, options.full, before, sys.stdin.read(LARGEST + 1))
    if options.action == "drop":
        return drop(tree, options.full)
    if options.action == "refresh":
        return refresh(tree, if_changed=options.if_changed)
    return json.dumps(state(tree))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
