"""The start page's form: a card for each profile, what is free of it, and an advanced part.

Inner HTML only; JupyterHub's page has the form, its token and its button. The sentences are kept
fresh by the page's script (hub/templates/spawn.html), which asks for them again.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.model import Profile
from cluster.values import seconds
from spawners import amounts
from spawners.options import MINIMUM_MB, full_time


def form(
    profiles: Sequence[Profile],
    last: Mapping[str, Any],
    free: Mapping[str, str],
    kernels: Sequence[tuple[str, str]] = (),
    modules: Sequence[str] = (),
    limits: str = "",
) -> str:
    """``last``: the options of the last start, chosen again as far as they still exist.
    ``free``: what is free of each profile, in a sentence. ``kernels``: (name, title).
    ``limits``: a sentence on what one person may have, for everybody to read."""
    if not profiles:
        return ""
    names = [profile.name for profile in profiles]
    chosen = last.get("profile")
    if chosen not in names:  # nothing of a profile that is gone can be meant
        chosen, last = names[0], {}
    cards = "\n".join(
        _card(profile, profile.name == chosen, free.get(profile.name, "")) for profile in profiles
    )
    note = f'<p class="practicum-limits">{html.escape(limits)}</p>\n' if limits else ""
    return (
        f'<fieldset class="practicum-profiles"><legend>Profile</legend>\n{cards}\n</fieldset>\n'
        + note
        + _advanced(last, kernels, modules)
    )


def _card(profile: Profile, checked: bool, free: str) -> str:
    mark = " checked" if checked else ""
    cores = amounts.count(profile.cpus, "core")
    details = f"{cores}, {profile.memory_mb} MB, at most {amounts.length(seconds(profile.time))}"
    limits = {
        "cpus": profile.cpus,
        "memory": profile.memory_mb,
        "time": full_time(profile.time),
        "login": "1" if profile.login else "",
    }
    data = "".join(f' data-{key}="{html.escape(str(value))}"' for key, value in limits.items())
    name = html.escape(profile.name)
    return (
        '<label class="practicum-profile">'
        f'<input type="radio" name="profile" value="{name}"{mark} required{data}>'
        '<span class="practicum-card">'
        f"<strong>{html.escape(profile.title)}</strong> "
        f"<span>{html.escape(profile.description)}</span> "
        f'<small class="practicum-details">{html.escape(details)}</small> '
        f'<small class="practicum-free" data-profile="{name}">{html.escape(free)}</small>'
        "</span></label>"
    )


def _advanced(
    last: Mapping[str, Any], kernels: Sequence[tuple[str, str]], modules: Sequence[str]
) -> str:
    """Less than the profile offers, the kernel of new notebooks, modules. Empty: the usual."""
    shown = {key: last.get(key) for key in ("cpus", "memory", "time", "kernel", "modules")}
    opened = " open" if any(shown.values()) else ""
    fields = [
        _field("cpus", "Cores", shown["cpus"], 'type="number" min="1" inputmode="numeric"'),
        _field("memory", "Memory in MB", shown["memory"],
               f'type="number" min="{MINIMUM_MB}" inputmode="numeric"'),
        _field("time", "Time, hours:minutes", shown["time"],
               'type="text" pattern="([0-9]{1,2}-)?[0-9]{1,3}:[0-9]{2}(:[0-9]{2})?"'),
    ]  # fmt: skip
    if kernels:
        fields.append(_kernel(shown["kernel"], kernels))
    return (
        f'<details class="practicum-advanced"{opened}><summary>Advanced</summary>\n'
        "<p>Ask for less than the profile offers and you may start sooner. "
        "Leave a field empty for all of it.</p>\n"
        f'<div class="practicum-fields">{"".join(fields)}</div>'
        f"{_modules(shown['modules'], modules)}</details>"
    )


def _modules(chosen: Any, modules: Sequence[str]) -> str:
    if not modules:
        return ""
    last = chosen if isinstance(chosen, list | tuple) else ()
    boxes = []
    for name in modules:
        mark = " checked" if name in last else ""
        text = html.escape(name)
        boxes.append(
            f'<label><input type="checkbox" name="modules" value="{text}"{mark}> {text}</label>'
        )
    return (
        '<fieldset class="practicum-modules"><legend>Modules loaded at the start</legend>'
        f'<div class="practicum-list" tabindex="0" role="group" aria-label="Modules">'
        f"{''.join(boxes)}</div></fieldset>"
    )


def _field(name: str, label: str, value: Any, attributes: str) -> str:
    text = html.escape(str(value)) if isinstance(value, str | int) else ""
    return (
        f'<label class="practicum-field">{html.escape(label)}'
        f'<input class="form-control" name="{name}" value="{text}" {attributes}></label>'
    )


def _kernel(chosen: Any, kernels: Sequence[tuple[str, str]]) -> str:
    entries = ['<option value="">the usual one</option>']
    for name, title in kernels:
        mark = " selected" if name == chosen else ""
        entries.append(f'<option value="{html.escape(name)}"{mark}>{html.escape(title)}</option>')
    return (
        '<label class="practicum-field">Kernel of new notebooks'
        f'<select class="form-control" name="kernel">{"".join(entries)}</select></label>'
    )
