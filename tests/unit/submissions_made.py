"""Right submissions, made by hand: jobs as the accounting would have them, and the files.

Results are computed here by other ways than in the assignments' tests, where there are any.
"""

from __future__ import annotations

import json
import math
from typing import Any

from accounting_made import MB, job, step

from cluster.slurm_text import JobState
from coursework.accounting import Accounting, Job, Resources, Window
from coursework.clustertests import Work, seed

STUDENT, ACCOUNT = "ada", "class"
OPENS = 1000
# what pw.x 6.7 gives for the lattice parameter of this student
LATTICE, ENERGY = "10.78", "-15.82822215"


class Made:
    """Collects jobs, an hour apart, and files."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = seed(STUDENT, name) % 90000 + 10000
        self.jobs: list[Job] = []
        self.files: dict[str, bytes] = {}
        self.now = 2000

    def add(self, name: str, out: str = "", **changes: Any) -> Job:
        """A job; its output file is name-JOBID.out."""
        job_id = 100 + len(self.jobs)
        start = changes.pop("started", self.now)
        elapsed = changes.pop("elapsed", 30)
        usual: dict[str, Any] = {
            "name": name, "user": STUDENT, "account": ACCOUNT, "submitted": start - 1,
            "eligible": start - 1, "started": start, "ended": start + elapsed, "elapsed": elapsed,
            "time_limit": 120, "cpu_time": 25, "submit_line": f"sbatch {name}.sh", "steps": (step(),),
            "script": f"#!/bin/bash\n#SBATCH --output={name}-%j.out\n",
        }  # fmt: skip
        made = job(job_id, **{**usual, **changes})
        self.jobs.append(made)
        self.now = max(self.now, start + elapsed) + 60
        self.files[f"{name}-{job_id}.out"] = out.encode()
        return made

    def say(self, file: str, value: object) -> None:
        self.files[file] = (value if isinstance(value, str) else json.dumps(value)).encode()

    def work(self) -> Work:
        window = Window(OPENS, self.now + 3600)
        return Work(
            STUDENT, self.name,
            Accounting(STUDENT, ACCOUNT, window, self.now, tuple(self.jobs)), self.files,
        )  # fmt: skip


def asked(cpus: int = 1, nodes: int = 1, mb: int = 200) -> dict[str, Resources]:
    given = Resources(cpus, nodes, mb * MB)
    return {"requested": given, "allocated": given}


def ranks(count: int, nodes: tuple[str, ...], cpus: int = 0) -> dict[str, Any]:
    return {
        "nodes": nodes,
        "steps": (step(), step("0", tasks=count, nodes=nodes, cpus=cpus or count)),
        **asked(cpus or count, len(nodes)),
    }


BOTH = ("node01", "node02")


def first_job() -> Made:
    made = Made("1-first-job")
    hello = made.add("hello", f"node01\n{made.number}\n", elapsed=11)
    made.add("two", "node01\nnode02\n", **ranks(2, BOTH))
    made.add("endless", state=JobState.CANCELLED, time_limit=2400)
    made.say("answers.json", {"job": hello.job_id, "node": "node01", "seconds": 11})
    return made


def is_prime(n: int) -> bool:
    """Miller and Rabin's test, which these bases make sure below 3,215,031,751."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7):
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def primes(start: int) -> int:
    """By another way than the assignment's test."""
    return sum(is_prime(n) for n in range(start + 1, start + 100_000, 2))


def ask() -> Made:
    made = Made("2-ask")
    start = made.number * 10_000
    line = f"primes from {start} to {start + 100_000}: {primes(start)}\n"
    made.add("fit", line, **asked(mb=120))
    made.add("wide", line, **asked(2, mb=120))
    script = "#!/bin/bash\n#SBATCH --output=pair-%j.out\npython3 primes.py 1 --workers $SLURM_CPUS_PER_TASK\n"
    made.add("pair", line, script=script, **asked(2, mb=300))
    made.say("answers.json", {"efficiency_percent": 42})
    return made


def broken() -> Made:
    made = Made("3-break")
    n = made.number
    values = [n * (turn + 7) % 1009 for turn in range(1, 101)]
    said = "".join(f"reading {turn}: {value}\n" for turn, value in enumerate(values, 1))
    part = said[: said.index("reading 70:")]
    slow = made.add("slow", part, state=JobState.TIMEOUT, time_limit=60, elapsed=75)
    made.add("slow-mended", f"{said}mean of 100: {sum(values) / 100:.2f}\n", elapsed=101)
    script = "#!/bin/bash\n#SBATCH --output=hungry-%j.out\npython3 hungry.py 1\n"
    made.add("hungry", state=JobState.OUT_OF_MEMORY, script=script, **asked(mb=100))
    total = 37_500_000 * (2 * n + 37_499_999) // 2
    made.add("hungry-mended", f"sum of the table: {total}\n", **asked(mb=400))
    careless = made.add("careless")
    script = "#!/bin/bash\n#SBATCH --output=careful-%j.out\npython3 analyse.py 1\necho 'all done'\n"
    careful = made.add("careful", f"analyse: there is no input-{n}.txt\n", script=script,
                       state=JobState.FAILED, exit_code=3)  # fmt: skip
    made.add("repaired", f"sum of input-{n}.txt: {sum(n * t % 997 for t in range(1, 201))}\n")
    made.say("answers.json", {
        "slow": [slow.job_id, "TIMEOUT", "0:0"], "careless": [careless.job_id, "COMPLETED", "0:0"],
        "careful": [careful.job_id, "FAILED", "3:0"],
    })  # fmt: skip
    return made


def fly(number: int, angle: int, h: float = 1e-4) -> float:
    speed = 20 + number % 1000 / 100
    x = y = 0.0
    vx, vy = speed * math.cos(math.radians(angle)), speed * math.sin(math.radians(angle))
    while y >= 0:
        slow = 0.004 * math.sqrt(vx * vx + vy * vy)
        vx -= slow * vx * h
        vy -= (9.81 + slow * vy) * h
        x += vx * h
        y += vy * h
    return x


def arrays() -> Made:
    made = Made("4-arrays")
    first = made.number % 20
    bad = sorted({first, (first + 1 + made.number // 20 % 19) % 20})
    start = made.now
    for task in range(20):
        state = JobState.FAILED if task in bad else JobState.COMPLETED
        made.add("sweep", array_id=500, array_task=task, started=start + 40 * (task // 4), elapsed=30,
                 state=state, script="#!/bin/bash\n#SBATCH --array=0-19%4\n")  # fmt: skip
    start = made.now
    for task in bad:
        made.add("rest", array_id=600, array_task=task, started=start)
    table = {10 + 3 * line: fly(made.number, 10 + 3 * line) for line in range(20)}
    made.say("ranges.csv", "".join(f"{angle},{far:.3f}\n" for angle, far in table.items()))
    made.say("best.txt", str(max(table, key=lambda angle: table[angle])))
    return made


def cubes(number: int, first: int, last: int) -> int:
    """Of number * i, added up by the polynomial's four coefficients; modulo 2^64."""

    def below(n: int) -> int:
        return (n**4 - 2 * n**3 + n**2) // 4

    return number**3 * (below(last) - below(first)) % 2**64


def pipeline() -> Made:
    made = Made("5-pipeline")
    each = 3_000_000_000
    parts = {part: cubes(made.number, (part - 1) * each, part * each) for part in (1, 2, 3)}
    script = '#!/bin/bash\nmodule load gcc openmpi\n"$MPICC" -o wave wave.c\n'
    build = made.add("build", script=script)
    start = made.now
    assert build.ended is not None
    for part in (1, 2, 3):
        made.add("simulate", array_id=700, array_task=part, started=start, elapsed=30,
                 submitted=build.submitted, eligible=build.ended,
                 submit_line=f"sbatch --dependency=afterok:{build.job_id} simulate.sh")  # fmt: skip
        made.say(f"part-{part}.txt", f"part {part}: {parts[part]}\n")
    made.add("collect", submitted=build.submitted, eligible=start + 30,
             submit_line="sbatch --dependency=afterok:700 collect.sh")  # fmt: skip
    made.say("total.txt", str(sum(parts.values()) % 2**64))
    bad = made.add("broken", state=JobState.FAILED, exit_code=1)
    made.add("never", state=JobState.CANCELLED, elapsed=0, cpu_time=0, steps=(),
             submit_line=f"sbatch --dependency=afterok:{bad.job_id} --kill-on-invalid-dep=yes")  # fmt: skip
    made.add("notice", f"{bad.job_id} FAILED 1:0\n", submitted=bad.submitted, eligible=bad.ended,
             submit_line=f"sbatch --output=notice-%j.out --dependency=afterany:{bad.job_id}")  # fmt: skip
    return made


def parallel() -> Made:
    made = Made("6-parallel")
    total = f"checksum: {cubes(made.number, 0, 4_000_000_000)}\n"
    script = "#!/bin/bash\n#SBATCH --output=threads-%j.out\nexport OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK\n"
    made.add("threads", f"threads: 2\n{total}", script=script, **asked(2))
    placed = "".join(f"rank {rank} of 4 on {BOTH[rank // 2]}\n" for rank in range(4))
    made.add("ranks", f"{placed}threads: 1\n{total}", **ranks(4, BOTH))
    placed = "".join(f"rank {rank} of 2 on {BOTH[rank]}\n" for rank in range(2))
    made.add("hybrid", f"{placed}threads: 2\n{total}", **ranks(2, BOTH, cpus=4))
    return made


def scaling() -> Made:
    made = Made("7-scaling")
    total = f"checksum: {cubes(made.number, 0, 8_000_000_000)}\n"
    times = {1: 40, 2: 22, 4: 13, 8: 9}
    for n, seconds in times.items():
        one = step("0", tasks=n, elapsed=seconds)
        made.add(
            f"cores-{n}", f"cores: {n}\nseconds: 1.00\n{total}", steps=(step(), one), **asked(n)
        )
    made.say("timings.csv", "".join(f"{n},{seconds}\n" for n, seconds in times.items()))
    made.say("answers.json", {"serial_share": round((9 / 40 - 1 / 8) / (1 - 1 / 8), 3)})
    # the chunk that the test makes again is what numpy gives for this number; the others only differ
    rows = {k: (10617027 + k / 100, 1273883529 + k) for k in range(2000)}
    assert (made.number, seed(STUDENT, made.name) % 2000) == (44560, 560)
    rows[560] = (10617027.71, 1273883529)
    text = "".join(f"{k},{one:.10g},{two:.10g}\n" for k, (one, two) in rows.items())
    mean = sum(one for one, _ in rows.values()) / 2e8
    error = math.sqrt((sum(two for _, two in rows.values()) / 2e8 - mean**2) / 2e8)
    made.add("gbm", script="#!/bin/bash\npython3 gbm.py 0 1 chunks.csv\n", **asked(mb=150))
    made.say("chunks.csv", text)
    made.say("answers-gbm.json", {"mean": mean, "error": error})
    script = "#!/bin/bash\nsrun bash -c 'python3 gbm.py $SLURM_PROCID 4 part-$SLURM_PROCID.csv'\n"
    made.add("gbm-ranks", script=script, **ranks(4, ("node01",)))
    made.say("chunks-ranks.csv", text)
    return made


def affine(value: int, count: int) -> int:
    """``count`` steps x -> a x + c by the sum of a geometric series; modulo 2^64."""
    a, c = 6364136223846793005, 1442695040888963407
    wide = pow(a, count, (a - 1) << 64)  # so that the division by a - 1 is exact
    return (pow(a, count, 2**64) * value + c * ((wide - 1) // (a - 1))) % 2**64


def real_code() -> Made:
    made = Made("8-real-code")
    made.add("silicon", **ranks(2, ("node01",)))
    lattice = 9.6 + made.number % 120 / 100
    assert f"{lattice:.2f}" == LATTICE
    made.say(
        "si.out",
        f"""
     Parallel version (MPI), running on     2 processors
     lattice parameter (alat)  =      {lattice:.4f}  a.u.
!    total energy              =     {ENERGY} Ry
   JOB DONE.
""",
    )
    value, final = affine(made.number, 5_000_000), affine(made.number, 100_000_000)
    lives = f"resumed at step 5000000 with {value}\n"
    made.add("steps", f"{lives}after 100000000 steps: {final}\n", restarts=1)
    hold = made.add("hold", elapsed=60, **asked(4))
    whole = made.add("whole", submitted=hold.started, eligible=hold.started, **asked(8, 2))
    made.add("filler", submitted=(hold.started or 0) + 2, eligible=(hold.started or 0) + 2,
             started=(hold.started or 0) + 10, elapsed=10, time_limit=60)  # fmt: skip
    assert whole.started is not None
    made.say("answers.json", {"core_seconds": 30 * 2 + 30 + 60 * 4 + 30 * 8 + 10})
    return made


ALL = {
    "1-first-job": first_job, "2-ask": ask, "3-break": broken, "4-arrays": arrays,
    "5-pipeline": pipeline, "6-parallel": parallel, "7-scaling": scaling, "8-real-code": real_code,
}  # fmt: skip
