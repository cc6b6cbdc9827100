"""Grading on a lab: stock ``nbgrader autograde`` against ``practicum course grade``.

Forty submissions of a trivial notebook (one kernel start each), one course with 1, 2 and 4 slots;
then as many that only wait. Stock grades one after the other on the login node, as it does.

cpu       seconds for all, trivial notebooks
wait      seconds for all, notebooks that wait (stock: one was timed, times their number)
phases    seconds per submission: sanitizing, running (its own share), merging, and what is left
          (queue, start, looking for results)
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import common

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "lab"))

COURSE = "bench"
ROOT = f"/nfs/courses/{COURSE}"
PYTHON = "/nfs/envs/coursework/current/bin/python"
GOOD = "def f(x):\n    return x + 1"
SCRIPT = Path(__file__).parents[1] / "tests" / "lab" / "submissions.py"


def as_grader(run_on: Any, *argv: str, input: str = "", timeout: float = 1800) -> Any:
    environment = ["env", "-C", ROOT, f"JUPYTER_CONFIG_DIR=/etc/practicum/courses/{COURSE}",
                   f"PATH={PYTHON.rpartition('/')[0]}:/usr/bin:/bin", f"HOME={ROOT}",
                   "JUPYTER_PATH=/nfs/envs/jupyter"]  # fmt: skip
    command = ["runuser", "-u", f"grader-{COURSE}", "--", *environment, *argv]
    done = run_on("login", command, input=input, timeout=timeout)
    if done.returncode:
        raise SystemExit(f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def hand_in(run_on: Any, assignment: str, count: int, answer: str) -> None:
    given = {f"s{number:02d}": {"answer": answer} for number in range(count)}
    wanted = json.dumps({"assignment": assignment, "submissions": given})
    run_on("login", ["tee", "/tmp/submissions.py"], input=SCRIPT.read_text())
    as_grader(run_on, PYTHON, "/tmp/submissions.py", ROOT, input=wanted)


def stock(run_on: Any, assignment: str, *words: str) -> float:
    """Seconds of nbgrader autograde, with the class's own kernel."""
    began = time.monotonic()
    as_grader(run_on, f"{PYTHON.rpartition('/')[0]}/nbgrader", "autograde", assignment, "--force",
              *words)  # fmt: skip
    return time.monotonic() - began


def ours(run_on: Any, assignment: str) -> tuple[float, dict[str, float]]:
    """Seconds of practicum's grading, and its phases for each submission, from its events."""
    began = time.monotonic()
    argv = ["sudo", "-n", "-u", f"grader-{COURSE}", "/usr/local/lib/practicum/as-grader", "grade",
            COURSE, assignment, "--again", "--events"]  # fmt: skip
    done = run_on("login", argv, user="ines", timeout=3600)
    total = time.monotonic() - began
    events = [json.loads(line) for line in done.stdout.splitlines()]
    count = sum(event["event"] == "done" for event in events)
    if done.returncode or not count:
        raise SystemExit(f"grading failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    phases = dict.fromkeys(("sanitizing", "running", "merging", "queued"), 0.0)
    for event, following in itertools.pairwise(events):
        if event["event"] == "phase" and event["text"] in ("sanitizing", "merging"):
            phases[event["text"]] += following["time"] - event["time"]
    starts = {event["student"]: event["time"] for event in events if event.get("text") == "running"}
    merges = {event["student"]: event["time"] for event in events if event.get("text") == "merging"}
    phases["running"] = sum(merges[name] - starts[name] for name in starts if name in merges)
    queued = [event["time"] for event in events if event.get("text") == "queued"]
    phases["queued"] = (min(starts.values()) - min(queued)) if starts and queued else 0.0
    return total, {name: round(value / count, 2) for name, value in phases.items()}


def measured(lab: Any, run_on: Any, options: argparse.Namespace) -> tuple[Any, Any, Any]:
    from courses import apply, courses  # noqa: PLC0415

    from cluster.edit_courses import changed  # noqa: PLC0415

    own: dict[str, Any] = {"cpu": {}, "wait": {}, "phases": {}}
    peer: dict[str, Any] = {}
    waiting = f"import time\ntime.sleep({options.wait})\n" + GOOD
    with courses(lab, run_on, (COURSE, ["ines"], ["ada"])):
        hand_in(run_on, "cpu", options.count, GOOD)
        hand_in(run_on, "wait", options.waiting, waiting)
        peer["cpu"] = stock(run_on, "cpu")
        common.say(f"stock: {peer['cpu']:.1f} s")
        peer["wait"] = options.waiting * stock(run_on, "wait", "--student=s00")
        for slots in options.slots:
            path = lab.cluster_toml
            path.write_text(changed(path.read_text(), COURSE, {"slots": slots}))
            apply(path)
            own["cpu"][slots], own["phases"][slots] = ours(run_on, "cpu")
            common.say(f"{slots} slots: {own['cpu'][slots]:.1f} s, {own['phases'][slots]}")
            own["wait"][slots], _ = ours(run_on, "wait")
            common.say(f"{slots} slots: {own['wait'][slots]:.1f} s of waiting")
    ratios = {
        "cpu": {slots: peer["cpu"] / own["cpu"][slots] for slots in options.slots},
        "wait_to_ideal": {
            slots: own["wait"][slots] / (-(-options.waiting // slots) * options.wait)
            for slots in options.slots
        },
    }
    return own, peer, ratios


def main() -> None:
    from run_in_lab import run_in  # noqa: PLC0415

    from practicum.rooms import ROLES  # noqa: PLC0415
    from provisioning import lab as labs  # noqa: PLC0415

    parser = argparse.ArgumentParser()
    parser.add_argument("--lab", help="a lab that runs already")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--waiting", type=int, default=40)
    parser.add_argument("--wait", type=int, default=20)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    if options.lab:
        found = labs.info(options.lab)
        own, peer, ratios = measured(found, run_in(found), options)
    else:
        with common.own_lab(ROLES, provision=True) as found:
            own, peer, ratios = measured(found, run_in(found), options)
    rows = [
        (f"{slots} slots", f"{own['cpu'][slots]:.1f}", f"{peer['cpu']:.1f}",
         f"{ratios['cpu'][slots]:.2f}", f"{own['wait'][slots]:.1f}",
         f"{ratios['wait_to_ideal'][slots]:.2f}")
        for slots in options.slots
    ]  # fmt: skip
    common.show(
        f"Grading {options.count} submissions, seconds", rows,
        ["", "ours", "stock", "stock/ours", f"waiting {options.wait} s", "to ideal"],
    )  # fmt: skip
    common.finish("grade", own, peer, ratios)


if __name__ == "__main__":
    main()
