"""How an assignment's grading goes: what is on disk of it, and the page that shows it.

grading/assignments/ASSIGNMENT/progress is written by whoever grades, with their process: one that
was killed cannot say that it ended. The page asks for itself again and puts in what has changed; an
answer that does not come, as from a hub that is started anew, does not end that. Everything that is
shown is escaped: reasons quote what students' code said.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

WORDS = {
    "to do": "waits",
    "sanitizing": "being prepared",
    "queued": "in the queue",
    "running": "runs",
    "merging": "being entered",
    "graded": "graded",
    "failed": "graded as it is",
    "waiting": "not graded",
}
DONE = ("graded", "failed", "waiting")
INTERRUPTED = "it was ended before it was done"
STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto;
 padding: 0 1rem; color: #1b1b1b; background: #fff; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc;
 vertical-align: top; overflow-wrap: anywhere; }
progress { width: 100%; height: 1.2rem; }
a { color: #0b4f9e; }
.failed, .waiting, #news { color: #8a1c00; }"""
SCRIPT = """"use strict";
const BUSY = 2000, IDLE = 10000;
const named = name => document.getElementById(name);
function put(fresh) {
  for (const name of ["told", "state"]) {
    const now = fresh.getElementById(name);
    if (now && now.outerHTML !== named(name).outerHTML) named(name).replaceWith(now);
  }
}
async function look() {
  let news = "";
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (answer.ok && fresh.getElementById("state")) put(fresh);
    else news = "No answer just now; it is asked again. After a long time: load the page anew.";
  } catch (error) {
    news = "The hub is not reached; it is asked again.";
  }
  if (named("news").textContent !== news) named("news").textContent = news;
  later();
}
function later() {
  setTimeout(look, named("state").dataset.busy ? BUSY : IDLE);
}
later();"""


def process(pid: int) -> list[int]:
    """A process: its number, and when it was started (clock ticks since boot, proc(5)), for
    numbers are used again. OSError for none, ValueError for one that is over."""
    state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if state in "ZX":
        raise ValueError(f"{pid} is over")
    return [pid, int(fields[18])]


def is_running(progress: dict[str, Any]) -> bool:
    """Whether the grading that wrote this goes on: the process is there, on this node, where all
    grading is begun."""
    if not progress.get("running"):
        return False
    try:
        pid, since = progress["process"]
        return process(int(pid)) == [pid, since]
    except (KeyError, TypeError, ValueError, OSError):
        return False


def read(folder: Path) -> dict[str, Any]:
    """An assignment's progress; empty where there is none. A grading that was killed has not been
    running since, and ended with INTERRUPTED."""
    try:
        progress = dict(json.loads((folder / "progress").read_text()))
    except (OSError, ValueError, TypeError):
        progress = {}
    if progress.get("running") and not is_running(progress):
        progress |= {"running": False, "error": INTERRUPTED}
    return progress


def entries(folder: Path) -> dict[str, Any]:
    """What is known of each student, as it is on disk; damaged files count as not there."""
    found = {}
    for path in folder.glob("*.json"):
        try:
            entry = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        found[str(entry.get("student"))] = entry
    return found


def told(progress: dict[str, Any], done: int, *, more: bool) -> str:
    """The page's first sentence. ``more``: something is asked for that has not begun."""
    if progress.get("running"):
        return f"{done} of {len(progress.get('students', {}))} done"
    if more:
        return "It begins in a moment."
    error = progress.get("error")
    if error == INTERRUPTED:
        return "It was interrupted: ask for it again. What is graded stays."
    return f"Stopped: {error}" if error else "Nothing is being graded now."


def page(
    assignment: str, progress: dict[str, Any], entries: dict[str, Any], back: str, nonce: str,
    *, more: bool = False,
) -> str:  # fmt: skip
    """The page's HTML. ``nonce`` lets its script run, and no other."""
    students = progress.get("students", {})
    running = bool(progress.get("running"))
    done = sum(state in DONE for state in students.values())
    rows = "".join(
        row(name, students.get(name, ""), entries.get(name, {}), running=running)
        for name in sorted({*students, *entries})
    )
    title = escape(f"Grading {assignment}")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{STYLE}</style></head><body><main><h1>{title}</h1>
<div role="status"><p id="told">{escape(told(progress, done, more=more))}</p><p id="news"></p></div>
<div id="state"{' data-busy="yes"' if running or more else ""}>
{bar(done, len(students)) if running else ""}
<table><thead><tr><th scope="col">Student</th><th scope="col">State</th>
<th scope="col">Score</th><th scope="col">Why</th></tr></thead><tbody>{rows}</tbody></table>
</div>
<p><a href="{escape(back)}">Back to formgrader</a></p></main>
<script nonce="{escape(nonce)}">{SCRIPT}</script></body></html>"""


def policy(nonce: str) -> str:
    """The page's Content-Security-Policy."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


def bar(done: int, total: int) -> str:
    return f'<progress max="{total}" value="{done}" aria-label="graded so far"></progress>'


def row(name: str, state: str, entry: dict[str, Any], *, running: bool) -> str:
    if state not in DONE and not running:
        state = ""  # of a grading that was interrupted
    state = state or str(entry.get("status", "waiting"))
    current = state == entry.get("status")
    score = entry.get("score")
    points = (
        f"{score:g} of {entry.get('max_score') or 0:g}" if current and score is not None else ""
    )
    reason = str(entry.get("reason", "")) if current else ""
    kind = state if state in ("failed", "waiting") else ""
    cells = (name, WORDS.get(state, state), points, reason)
    inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr class="{kind}">{inner}</tr>'
