"""A job that the admin submits for somebody, from the login node, and waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cluster.errors import PracticumError
from lmod.shells import PROFILE
from provisioning.ssh import Remote

OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
WRITTEN_SECONDS = 30  # until a node sees what another has written
POLL_SECONDS = 1.0


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

    def wait(
        self,
        job: str,
        place_seconds: float,
        tell: Callable[[str], None],
        seconds: float = 0,
        look: Callable[[], None] = lambda: None,
    ) -> str:
        """Until it is over; its last state. PracticumError when it gets no place within
        ``place_seconds``, or is not over ``seconds`` after that (0: Slurm's own limit counts).
        ``look`` is called now and then while it runs."""
        limit = time.monotonic() + place_seconds
        said, state = "", ""
        while True:
            words = ["squeue", "-h", "-j", job, "-o", "%T %r"]
            now, _, reason = self.remote.run(words, timeout=60).out.strip().partition(" ")
            # a job that is over is known for some minutes, then squeue has never heard of it
            if not now or now in OVER:
                return now or "COMPLETED"
            if now != "PENDING" and state in ("", "PENDING"):
                limit = time.monotonic() + (seconds or float("inf"))
            state = now
            if time.monotonic() > limit:
                raise PracticumError(
                    f"job {job} got no place within {place_seconds / 60:.0f} minutes ({reason}): "
                    "try again when the cluster is less busy"
                    if state == "PENDING"
                    else f"job {job} is not over after {seconds / 60:.0f} minutes: it is ended"
                )
            text = f"job {job}: {state.lower()}" + (f" ({reason})" if state == "PENDING" else "")
            if text != said:
                tell(text)
                said = text
            look()
            time.sleep(POLL_SECONDS)
