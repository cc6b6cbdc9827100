"""Assignment 3's memory exercise where the kernel limits memory, which a lab's does not."""

from __future__ import annotations

import subprocess

import playing
import pytest
from vmkit.use import Vms

from coursework import notebooks, snapshot
from coursework.accounting import Window
from coursework.clustertests import Work

pytestmark = pytest.mark.vm


def test_the_memory_exercise_is_graded_by_the_kill(cluster_vms: Vms) -> None:
    """Assignment 3 where the kernel limits memory: the job is killed, and that is what earns."""
    name = "3-break"
    program = notebooks.handed_out(name)["hungry.py"].decode()
    script = (
        "#!/bin/bash\n#SBATCH --job-name=hungry --mem=100M --time=00:05:00\n"
        f"#SBATCH --account={playing.ACCOUNT} --chdir=/tmp --output=/tmp/hungry-%j.out\n"
        f"cat > hungry.py <<'END'\n{program}END\n"
        "python3 hungry.py 12345\n"
    )
    begun = int(cluster_vms.check_on("head", ["date", "+%s"]))
    submitted = ["sbatch", "--parsable"]
    job = cluster_vms.check_on("head", submitted, user="ada", input=script).strip()
    state = ["sacct", "-n", "-P", "-X", "-o", "State", "-j", job]
    cluster_vms.until("head", state, lambda text: "OUT_OF_MEMORY" in text)

    def on_head(_node: str, argv: list[str], **more: float) -> subprocess.CompletedProcess[str]:
        return cluster_vms.run_on("head", argv, **more)

    window = Window(begun, begun + 3600)
    accounting = playing.settled(
        lambda: snapshot.take("ada", playing.ACCOUNT, window, ask=playing.asker(on_head))
    )
    points, verdict = playing.graded(name, Work("ada", name, accounting))["hungry"]
    assert points == 2, verdict.text
    assert "OUT_OF_MEMORY" in verdict.text
