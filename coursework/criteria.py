"""What a test can look at in a run: each function gives a criterion of coursework.clustertests.

Ranges are ``(least, most)``, either may be None. Each says in plain words what was expected and
what was seen, and, when missed, what to do about it: a student reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from cluster.slurm_text import JobState
from cluster.values import clock
from coursework.accounting import Job, waited_for
from coursework.clustertests import Criterion, Finding, Run, Work

Range = tuple[float | None, float | None]
MB = 1024 * 1024
_COUNTED = ("core", "node", "task", "requeue")

_STATES = {
    JobState.TIMEOUT: "It ran into its time limit: ask for more with --time, or do less.",
    JobState.OUT_OF_MEMORY: "It used more memory than it had asked for (--mem).",
    JobState.CANCELLED: "It was cancelled before it was done.",
    JobState.FAILED: "Its script ended with an exit code other than 0: read its output file.",
    JobState.NODE_FAIL: "Its node failed, which is not your fault: submit it again.",
}


def completed() -> Criterion:
    """State COMPLETED; of an array, the share of tasks that are."""

    def check(run: Run, _work: Work) -> Finding:
        done = [job for job in run.jobs if job.state is JobState.COMPLETED]
        rest = [job for job in run.jobs if job.state is not JobState.COMPLETED]
        advice = _STATES.get(rest[0].state, "") if rest else ""
        seen = _states(run) if rest else "COMPLETED"
        return Finding(len(done) / len(run.jobs), "the state COMPLETED", seen, advice)

    return Criterion(check)


def ended(*states: str, exit_code: int | None = None) -> Criterion:
    """One of these states (TIMEOUT, OUT_OF_MEMORY, FAILED...), and that exit code if given."""
    wanted = [JobState(state) for state in states]
    words = " or ".join(states) + (f" with exit code {exit_code}" if exit_code is not None else "")

    def check(run: Run, _work: Work) -> Finding:
        good = [
            job.state in wanted and (exit_code is None or job.exit_code == exit_code)
            for job in run.jobs
        ]
        return Finding(sum(good) / len(good), f"the state {words}", _states(run))

    return Criterion(check)


def _states(run: Run) -> str:
    def told(job: Job) -> str:
        code = f" with exit code {job.exit_code}" if job.exit_code else ""
        return f"{job.state.value}{code}{f', signal {job.signal}' if job.signal else ''}"

    found = dict.fromkeys(told(job) for job in run.jobs)
    return ", ".join(found)


def asked(
    *, cpus: Range | None = None, nodes: Range | None = None, memory_mb: Range | None = None,
    time_limit: Range | None = None,
) -> Criterion:  # fmt: skip
    """What the job asked for: processors, nodes, megabytes of the whole job, seconds of --time.

    Each part that is given has an equal share.
    """

    def check(run: Run, _work: Work) -> Finding:
        job = run.job
        memory = job.requested.memory
        parts = [
            ("{} core", "--ntasks and --cpus-per-task", cpus, job.requested.cpus),
            ("{} node", "--nodes", nodes, job.requested.nodes),
            ("{} MB of memory", "--mem", memory_mb, None if memory is None else memory / MB),
            ("a time limit of {}", "--time", time_limit, job.time_limit),
        ]
        looked = [(word, option, wanted, seen) for word, option, wanted, seen in parts if wanted]
        missed = [option for _, option, wanted, seen in looked if not _within(wanted, seen)]
        return Finding(
            1 - len(missed) / len(looked),
            "a request for " + ", ".join(_words(wanted, word) for word, _, wanted, _ in looked),
            ", ".join(_words((seen, seen), word) for word, _, _, seen in looked),
            f"Set by {' and '.join(missed)}: a request that fits starts sooner and wastes nothing.",
        )

    return Criterion(check)


def ran(*, at_least: float | None = None, at_most: float | None = None) -> Criterion:
    """Seconds from start to end; of an array, of each task."""

    def check(run: Run, _work: Work) -> Finding:
        good = [_within((at_least, at_most), job.elapsed) for job in run.jobs]
        seen = ", ".join(dict.fromkeys(f"{job.elapsed} s" for job in run.jobs))
        wanted = f"a run of {_words((at_least, at_most))} s"
        return Finding(sum(good) / len(good), wanted, seen)

    return Criterion(check)


def cpu_time(*, at_least: float | None = None, at_most: float | None = None) -> Criterion:
    """Processor seconds that were really used, by all tasks of the run together.

    A job that sleeps uses none. An upper bound tells a serial program that was started once for
    each rank from one that divides its work.
    """

    def check(run: Run, _work: Work) -> Finding:
        seen = run.cpu_time
        advice = (
            "Waiting (sleep) is not work: the job's processes used hardly any processor time."
            if at_least is not None and seen < at_least
            else "The work was done more than once: does each rank do only its own part?"
        )
        return Finding(
            float(_within((at_least, at_most), seen)),
            f"{_words((at_least, at_most))} s of processor time",
            f"{seen} s",
            advice,
        )

    return Criterion(check)


def busy(at_least: float) -> Criterion:
    """The share of the given processors' time that was used, 0 to 1 (seff's CPU efficiency)."""

    def check(run: Run, _work: Work) -> Finding:
        given = sum(job.elapsed * job.allocated.cpus for job in run.jobs)
        if not given:
            return Finding(0, f"cores busy {at_least:.0%} of the time", "it never ran")
        share = run.cpu_time / given
        return Finding(
            float(share >= at_least),
            f"cores busy at least {at_least:.0%} of the time",
            f"{share:.0%} ({run.cpu_time} of {given} core seconds)",
            "Cores that were asked for and not used could have run somebody else's job.",
        )

    return Criterion(check)


def tasks(count: int, *, each_cpu: float = 0) -> Criterion:
    """One srun (or mpirun) step with that many tasks at once, each of which used ``each_cpu``
    seconds of processor or more. The same program started several times has steps of one task.
    What each task used is sampled: of a step of a few seconds it is not measured."""

    def check(run: Run, _work: Work) -> Finding:
        sruns = [step for job in run.jobs for step in job.sruns]
        most = max((step.tasks for step in sruns), default=0)
        fit = [step for step in sruns if step.tasks == count]
        worked = [step for step in fit if not each_cpu or (step.least_cpu or 0) >= each_cpu]
        wanted = f"a step of {count} tasks" + (f", {each_cpu:g} s of work each" if each_cpu else "")
        if fit and not worked and all(step.least_cpu is None for step in fit):
            return Finding(None, wanted, "the step was over before Slurm looked at its tasks")
        if fit and not worked:
            least = max(step.least_cpu or 0 for step in fit)
            return Finding(0, wanted, f"a task that used only {least} s", "Did every rank work?")
        seen = f"steps of at most {_words((most, most), '{} task')}" if most else "nothing by srun"
        seen = f"a step of {count} tasks" if fit else seen
        advice = "Start the program once, with srun, in a job with --ntasks."
        return Finding(float(bool(worked)), wanted, seen, advice)

    return Criterion(check)


def on_nodes(count: int) -> Criterion:
    """A step (or, without srun, the job) that ran on that many nodes."""

    def check(run: Run, _work: Work) -> Finding:
        used = [len(step.nodes) for job in run.jobs for step in job.sruns]
        most = max(used or [len(job.nodes) for job in run.jobs])
        ok = count in used if used else most == count
        advice = "Ask with --nodes, and start the program with srun, which uses all of them."
        return Finding(
            float(ok), f"ranks on {count} nodes", _words((most, most), "{} node"), advice
        )

    return Criterion(check)


def array(size: int, *, at_once: int | None = None) -> Criterion:
    """A job array of that many tasks, all run; with ``at_once`` no more than so many together.

    Array ids are Slurm's: a shell loop around sbatch makes single jobs, which this refuses.
    """

    def check(run: Run, _work: Work) -> Finding:
        wanted = f"an array of {size} tasks" + (f", at most {at_once} at once" if at_once else "")
        if not run.is_array:
            advice = "One sbatch with --array makes all tasks; a loop around sbatch does not."
            return Finding(0, wanted, "a single job", advice)
        numbers = {job.array_task for job in run.jobs if job.started is not None}
        if len(numbers) != size:
            return Finding(0, wanted, f"an array with {len(numbers)} tasks that ran")
        if at_once and run.at_once > at_once:
            advice = "--array=1-N%M runs at most M tasks together."
            return Finding(0.5, wanted, f"{run.at_once} tasks together", advice)
        return Finding(1, wanted, f"{len(numbers)} tasks, {run.at_once} at once")

    return Criterion(check)


def after(name: str) -> Criterion:
    """The run was held by Slurm until a run named ``name`` of the same student was over, and names
    it in --dependency."""

    def check(run: Run, work: Work) -> Finding:
        wanted = f"a job that waits for {name!r} by --dependency"
        named = set(run.job.depends_on)
        for first in work.runs(name):
            ids = {first.job.array_id, *(job.job_id for job in first.jobs)}
            if named & ids and all(waited_for(run.job, job) for job in first.jobs):
                return Finding(1, wanted, f"it waited for {first.label}")
        if not named:
            return Finding(
                0, wanted, "no --dependency", "Use sbatch --dependency=afterok:ID (or afterany:ID)."
            )
        return Finding(0, wanted, f"a dependency on {sorted(named)}, which it did not wait for")

    return Criterion(check)


def requeued(times: int = 1) -> Criterion:
    """The job was put back in the queue and ran again under its own number."""

    def check(run: Run, _work: Work) -> Finding:
        seen = max(job.restarts for job in run.jobs)
        advice = "Submit it with --requeue; scontrol requeue JOBID puts it back while it runs."
        told = _words((seen, seen), "{} requeue")
        return Finding(float(seen >= times), f"{times} requeue or more", told, advice)

    return Criterion(check)


def memory_used(
    *, at_most_mb: float | None = None, at_least_of_request: float | None = None
) -> Criterion:
    """The most memory that was seen in use. Sampled: with fewer than two samples it is not
    measured, and the criterion counts neither way; let marks rest on ``asked(memory_mb=...)``."""

    def check(run: Run, _work: Work) -> Finding:
        words = []
        if at_most_mb is not None:
            words.append(f"at most {at_most_mb:g} MB of memory in use")
        if at_least_of_request is not None:
            words.append(f"at least {at_least_of_request:.0%} of the requested memory in use")
        wanted = " and ".join(words)
        peak = run.memory
        if peak is None:
            return Finding(None, wanted, "the job was too short: fewer than two samples")
        good = at_most_mb is None or peak <= at_most_mb * MB
        request = run.job.requested.memory
        if at_least_of_request is not None and request:
            good = good and peak >= at_least_of_request * request
        seen = f"{peak / MB:.0f} MB" + (f" of {request / MB:.0f} MB" if request else "")
        return Finding(float(good), wanted, seen)

    return Criterion(check)


def script_has(pattern: str, words: str) -> Criterion:
    """The script, as Slurm kept it at submission, has a line that matches. It shows what the
    student wrote, not what ran: for style, never as the only criterion."""

    def check(run: Run, _work: Work) -> Finding:
        lines = run.script.splitlines()
        found = next((line.strip() for line in lines if re.search(pattern, line)), None)
        seen = "no such line in the script" if found is None else f"the line {found!r:.80}"
        return Finding(float(found is not None), words, seen)

    return Criterion(check)


def reported(value: Callable[[Work], object], *, of: str = "elapsed", within: float = 0.1,
             or_seconds: float = 2) -> Criterion:  # fmt: skip
    """A number that the student reports (``value(work)``) is what Slurm recorded of the job:
    ``elapsed`` or ``cpu_time``, within a share or some seconds. Invented timings miss it."""

    def check(run: Run, work: Work) -> Finding:
        real = float(getattr(run.job, of))
        told = value(work)
        wanted = f"{real:g} s, as sacct has it"
        if isinstance(told, bool) or not isinstance(told, int | float):
            return Finding(0, wanted, "no number")
        ok = abs(told - real) <= max(or_seconds, within * real)
        return Finding(float(ok), wanted, f"{told:g} s reported", "Read it with sacct -j ID.")

    return Criterion(check)


def that(condition: Callable[[Run, Work], bool], expected: str, seen: str = "not so") -> Criterion:
    """Anything else about a run, in a sentence."""

    def check(run: Run, work: Work) -> Finding:
        ok = bool(condition(run, work))
        return Finding(float(ok), expected, "yes" if ok else seen)

    return Criterion(check)


def output(
    condition: Callable[[Run, Work], bool], expected: str, seen: str = "something else"
) -> Criterion:
    """What the run printed, by :func:`output_of`: told apart from a file that was not handed in."""

    def check(run: Run, work: Work) -> Finding:
        name, wanted = output_name(run), f"an output file with {expected}"
        if condition(run, work):
            return Finding(1, wanted, name)
        if name not in work.files:
            advice = "It must lie in the assignment's folder when you hand in."
            return Finding(0, wanted, f"no {name} among the files handed in", advice)
        return Finding(0, wanted, f"{seen} in {name}")

    return Criterion(check)


def output_of(run: Run, work: Work) -> str:
    """The run's output file, "" if it was not handed in. The student's words, as every file."""
    return work.text(output_name(run))


def output_name(run: Run) -> str:
    """Its name, without folders, as --output says, or Slurm's default."""
    job = run.job
    name = job.options.get("output", "")
    array = str(job.array_id or job.job_id)
    for old, new in (("%j", str(job.job_id)), ("%A", array), ("%a", str(job.array_task)),
                     ("%x", job.name), ("%u", job.user)):  # fmt: skip
        name = name.replace(old, new)
    default = f"slurm-{job.label}.out" if job.array_id else f"slurm-{job.job_id}.out"
    return PurePosixPath(name).name if name else default


def _within(wanted: Range, seen: float | None) -> bool:
    least, most = wanted
    if seen is None:
        return False
    return (least is None or seen >= least) and (most is None or seen <= most)


def _words(wanted: Range, form: str = "{}") -> str:
    """A range for people. ``form`` says of what: a noun in the singular, a unit, a time limit
    (which is told as Slurm writes it)."""
    least, most = wanted
    told = _clock if form.startswith("a time") else _number
    if least == most:
        text = told(least)
    elif most is None:
        text = f"at least {told(least)}"
    elif least is None:
        text = f"at most {told(most)}"
    else:
        text = f"{told(least)} to {told(most)}"
    if form.removeprefix("{} ") in _COUNTED and not least == most == 1:
        form += "s"
    return form.format(text)


def _clock(seconds: float | None) -> str:
    return "none" if seconds is None else clock(int(seconds)).removeprefix("0-")


def _number(value: float | None) -> str:
    return "no" if value is None else f"{value:g}"
