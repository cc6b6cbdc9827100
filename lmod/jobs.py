"""A job that the admin submits for somebody, from the login node, and waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cluster.errors import PracticumError
from cluster.slurm_text import JobState
from lmod.shells import PROFILE
from provisioning.remote import Remote

# Here nothing of it may run any more
OVER = frozenset(state for state in JobState if state.over) - {JobState.COMPLETING}
WRITTEN_SECONDS = 30  # until a node sees what another has written
POLL_SECONDS = 1.0
GONE_SECONDS = 60  # Slurm's KillWait and the epilog are well within


class Person:
    """Commands as somebody on the login node, with modules and nothing of root's environment."""

    def __init__(self, remote: Remote, user: str, home: str) -> None:
        self.remote = remote
        self.user = user
        self.home = home

    def run(self, words: Sequence[str], stdin: str = "") -> str:
        """The output. PracticumError when the command fails."""
        env = ["env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", f"HOME={self.home}",
               f"USER={self.user}", f"LOGNAME={self.user}", "LANG=C.UTF-8"]  # fmt: skip
        # a log-in shell would read the person's own files; BASH_ENV makes `module` in the script
        around = ["bash", "-c", f'. {PROFILE} && exec "$@"', "bash"]
        argv = ["/usr/sbin/runuser", "-u", self.user, "--", *around, *words]
        return self.remote.run([*env, *argv], stdin=stdin, timeout=60, check=True).out

    def read(self, path: str, *, end: str) -> str:
        """A file that a job on another node has written, whole: its last line is ``end``. After a
        while as it is then, or nothing."""
        limit = time.monotonic() + WRITTEN_SECONDS
        while True:
            words = ["/usr/sbin/runuser", "-u", self.user, "--", "cat", path]
            text = self.remote.run(words, timeout=60).out
            if text.rstrip().endswith(end) or time.monotonic() > limit:
                return text
            time.sleep(0.5)

    def submit(self, script: str, *options: str) -> str:
        """The job's number."""
        out = self.run(["sbatch", "--parsable", *options], script)
        return out.strip().partition(";")[0]

    def cancel(self, job: str) -> None:
        self.remote.run(["scancel", "--quiet", job], timeout=60)

    def state(self, job: str) -> tuple[str, str]:
        """State and reason. A job that is over is known for some minutes; after that, and for none
        that Slurm knows, it is COMPLETED. UNKNOWN while Slurm does not answer."""
        words = ["squeue", "-h", "-j", job, "-t", "all", "-o", "%T %r"]
        done = self.remote.run(words, timeout=180)  # squeue tries for a while itself
        if done.code and "Invalid job id" not in done.err:
            return "UNKNOWN", done.said
        now, _, reason = done.out.strip().partition(" ")
        return now or "COMPLETED", reason

    def gone(self, job: str) -> None:
        """Until nothing of a cancelled job runs; not for ever."""
        limit = time.monotonic() + GONE_SECONDS
        while self.state(job)[0] not in OVER and time.monotonic() < limit:
            time.sleep(POLL_SECONDS)

    def wait(
        self,
        job: str,
        place_seconds: float,
        tell: Callable[[str], None],
        seconds: float = 0,
        look: Callable[[], None] = lambda: None,
        every: float = POLL_SECONDS,
    ) -> str:
        """Until it is over; its last state. PracticumError when it gets no place within
        ``place_seconds``, or is not over ``seconds`` after that (0: Slurm's own limit counts).
        ``look`` is called each time that Slurm was asked, every so many seconds."""
        limit = time.monotonic() + place_seconds
        said, state = "", "PENDING"
        while True:
            now, reason = self.state(job)
            if now in OVER:
                return now
            if now not in ("PENDING", "UNKNOWN") and state == "PENDING":
                limit = time.monotonic() + (seconds or float("inf"))
            state = state if now == "UNKNOWN" else now
            if time.monotonic() > limit:
                raise PracticumError(
                    f"job {job} got no place within {place_seconds / 60:.0f} minutes ({reason}): "
                    "try again when the cluster is less busy"
                    if state == "PENDING"
                    else f"job {job} is not over after {seconds / 60:.0f} minutes: it is ended"
                )
            text = f"job {job}: {now.lower()}"
            text += f" ({reason})" if now in ("PENDING", "UNKNOWN") else ""
            if text != said:
                tell(text)
                said = text
            look()
            time.sleep(every)
