"""Job mail, delivered: a mail system is installed, which takes longer than `make test` may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edited import apply, edited, plan_is_empty, replaced
from student import text
from waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.slow]

BOX = "/var/mail/ada"
ENDS = ["sbatch", "--wait", "--parsable", "-D", "/tmp", "-o", "/dev/null", "--mem=20",
        "--mail-type=END", "--job-name=told", "--wrap=true"]  # fmt: skip


def test_the_end_of_a_job_is_mailed_to_its_owner_on_the_controller(lab: Any, run_on: Any) -> None:
    had_mail = run_on("login", ["test", "-e", "/usr/sbin/sendmail"]).returncode == 0
    run_on("login", ["rm", "-f", BOX])
    try:
        with edited(lab) as path:
            wanted = '[slurm]\nmail = true\n\n[[nodes]]\nname = "login"'
            path.write_text(replaced(Path(path).read_text(), '[[nodes]]\nname = "login"', wanted))
            apply(path)
            plan_is_empty(path)
            job = text(run_on("login", ENDS, user="ada")).strip()
            subject = f"Subject: Slurm Job_id={job} Name=told Ended"
            until(lambda: subject in run_on("login", ["cat", BOX], user="ada").stdout, 60)
            mail = text(run_on("login", ["cat", BOX], user="ada"))
            assert "COMPLETED" in mail
            assert mail.count("\nSubject: ") == 1, mail
            assert run_on("login", ["cat", BOX], user="ben").returncode != 0
        shown = text(run_on("login", ["scontrol", "show", "config"]))
        assert any(row.split() == ["MailProg", "=", "/bin/true"] for row in shown.splitlines())
        text(run_on("login", ENDS, user="ada"))
        assert text(run_on("login", ["cat", BOX], user="ada")).count("\nSubject: ") == 1
    finally:
        run_on("login", ["rm", "-f", BOX])
        if not had_mail:
            purge = ["apt-get", "-y", "-q", "purge", "bsd-mailx", "exim4*"]
            run_on("login", purge)
