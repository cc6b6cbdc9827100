"""What a student may choose: a profile, and less of it than it offers. Nothing else.

One function, :func:`choose`, judges the form's fields and the REST API's JSON alike.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.courses import Course
from cluster.model import Profile
from cluster.values import seconds

KEYS = ("profile", "cpus", "memory", "time", "kernel", "modules")
SEVERAL = ("modules",)  # fields of the form that may come more than once
MOST_MODULES = 20
TIME = re.compile(r"(\d{1,2}-)?\d{1,3}:\d{2}(:\d{2})?")
MINIMUM_MB = 64
MINIMUM_SECONDS = 60


class OptionError(ValueError):
    """A choice that cannot be had; its text is the sentence for the person who made it."""


@dataclass(frozen=True)
class Choice:
    """A checked choice. ``time`` as Slurm reads it, [D-]HH:MM:SS; ``kernel`` is that of new
    notebooks, "" for the usual one; ``modules`` are loaded before the server starts."""

    profile: Profile
    cpus: int
    memory_mb: int
    time: str
    kernel: str = ""
    modules: tuple[str, ...] = ()


def arguments(choice: Choice, usual_kernel: str = "") -> tuple[str, ...]:
    """The server's arguments that a choice makes. ``usual_kernel``: where none was chosen; ""
    leaves it to Jupyter."""
    kernel = choice.kernel or usual_kernel
    # the class that the environment's own file names (kernels.kernelspec): it beats its base class
    return (f"--MappingKernelManager.default_kernel_name={kernel}",) if kernel else ()


def groups_of(user: str) -> frozenset[str]:
    """Names of the system's groups of a user. KeyError when there is no such account."""
    entry = pwd.getpwnam(user)
    names = set()
    for gid in os.getgrouplist(user, entry.pw_gid):
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue  # a group without a name cannot be asked for by name
    return frozenset(names)


def offered(
    profiles: Sequence[Profile], groups: Collection[str], courses: Sequence[Course] = ()
) -> tuple[Profile, ...]:
    """The profiles that members of these groups and open courses may choose, in the file's order;
    those of their courses come first."""
    own = {course.profile for course in courses}
    first = [item for item in profiles if item.name in own]
    rest = [item for item in profiles if not item.groups or set(item.groups) & set(groups)]
    return (*first, *(item for item in rest if item not in first))


def usual_kernel(kernels: Collection[str], courses: Sequence[Course]) -> str:
    """Of somebody in these open courses who sees these kernels: the first that a course names."""
    return next((one.kernel for one in courses if one.kernel in kernels), "")


def from_form(form: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A form's fields (each a list) as options; a field left empty is not chosen.

    OptionError when a field comes twice that may not. Unknown fields are kept: :func:`choose`
    names them.
    """
    options: dict[str, Any] = {}
    for key, values in form.items():
        if key == "_xsrf":
            continue
        if key in SEVERAL:
            options[key] = list(values)
            continue
        if len(values) != 1:
            raise OptionError(f"The field {_shown(key)} was sent {len(values)} times.")
        value = values[0]
        if not isinstance(value, str):
            raise OptionError(f"The field {_shown(key)} must be text.")
        if value.strip():
            options[key] = value.strip()
    return options


def is_told(body: bytes) -> bool:
    """Whether a request's body chooses anything: a form always does, JSON does by its options.
    JupyterHub has read it already, so whatever cannot be read here is taken for a choice."""
    if not body.strip():
        return False
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return True
    if not isinstance(data, dict):
        return bool(data)
    if "user_options" in data or "display_name" in data:
        return data.get("user_options") is not None
    return bool(data)


def choose(
    options: Mapping[str, Any],
    profiles: Sequence[Profile],
    kernels: Sequence[str] = (),
    modules: Collection[str] = (),
) -> Choice:
    """The choice that ``options`` make among the offered ``profiles``; the first is the default.
    ``kernels`` and ``modules`` are the names of those that there are.

    OptionError says what cannot be had and what can.
    """
    if not profiles:
        raise OptionError(
            "There is no profile for you: ask the administrator to offer one to your group."
        )
    unknown = [key for key in options if key not in KEYS]
    if unknown:
        raise OptionError(
            f"There is no option {_shown(unknown[0])}; the options are {', '.join(KEYS)}."
        )
    profile = _profile(options.get("profile"), profiles)
    own = [key for key in ("cpus", "memory", "time") if options.get(key) is not None]
    if profile.login and own:
        raise OptionError(
            f"On the login node {own[0]} cannot be chosen: profile {profile.name} is had as it is."
        )
    return Choice(
        profile,
        _number("cpus", options.get("cpus"), 1, profile.cpus),
        _number("memory", options.get("memory"), MINIMUM_MB, profile.memory_mb),
        _time(options.get("time"), profile),
        _kernel(options.get("kernel"), kernels),
        _modules(options.get("modules"), modules),
    )


def recall(
    options: Mapping[str, Any],
    profiles: Sequence[Profile],
    kernels: Sequence[str] = (),
    modules: Collection[str] = (),
) -> Choice:
    """The choice of an earlier start, made again: what can no longer be had is left out.

    OptionError only when there is no profile at all.
    """
    kept: dict[str, Any] = {}
    for key in KEYS:  # the profile comes first: the others are measured by it
        if key not in options:
            continue
        try:
            choose({**kept, key: options[key]}, profiles, kernels, modules)
        except OptionError:
            if key == "profile":
                break  # the rest was meant for a profile that is gone
        else:
            kept[key] = options[key]
    return choose(kept, profiles, kernels, modules)


def _modules(names: Any, modules: Collection[str]) -> tuple[str, ...]:
    if names is None:
        return ()
    if not isinstance(names, list | tuple):
        raise OptionError(f"modules {_shown(names)} cannot be had: it is a list of names.")
    if len(names) > MOST_MODULES:
        raise OptionError(f"At most {MOST_MODULES} modules can be loaded, not {len(names)}.")
    for name in names:
        if not isinstance(name, str) or name not in modules:
            raise OptionError(
                f"There is no module {_shown(name)} to start with; `module avail` lists them."
            )
    return tuple(dict.fromkeys(names))


def _kernel(name: Any, kernels: Sequence[str]) -> str:
    if name is None:
        return ""
    if isinstance(name, str) and name in kernels:
        return name
    raise OptionError(
        f"There is no kernel {_shown(name)}; the kernels are {', '.join(kernels) or 'none'}."
    )


def _profile(name: Any, profiles: Sequence[Profile]) -> Profile:
    if name is None:
        return profiles[0]
    for profile in profiles:
        if profile.name == name:
            return profile
    names = ", ".join(profile.name for profile in profiles)
    raise OptionError(f"There is no profile {_shown(name)} for you; the profiles are {names}.")


def _number(key: str, value: Any, least: int, most: int) -> int:
    if value is None:
        return most
    unit = " MB" if key == "memory" else ""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    # bool is an int to Python, not to us; least may lie above a very small profile
    if type(value) is not int or not min(least, most) <= value <= most:
        raise OptionError(
            f"{key} {_shown(value)} cannot be had: "
            f"it is a whole number from {min(least, most)} to {most}{unit}."
        )
    return value


def _time(value: Any, profile: Profile) -> str:
    if value is None:
        return full_time(profile.time)
    most = seconds(profile.time)
    if isinstance(value, str) and value.isascii() and TIME.fullmatch(value):
        wanted = seconds(value)
        if min(MINIMUM_SECONDS, most) <= wanted <= most:
            return full_time(value)
    raise OptionError(
        f"time {_shown(value)} cannot be had: "
        f"it is hours:minutes like 01:30, from 00:01 to {full_time(profile.time)}."
    )


def full_time(time: str) -> str:
    """[D-]HH:MM:SS: Slurm would read two numbers as minutes and seconds."""
    total = seconds(time)
    days, rest = divmod(total, 86400)
    clock = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else type(value).__name__
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
