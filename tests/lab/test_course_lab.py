"""A course by the command line: made, handed out, handed in, collected; and what students try."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from courses import ASSIGNMENT, Course, courses

from practicum.cli import run as practicum

pytestmark = pytest.mark.lab

# A client that says what it likes: the credential is munge's own, all else is made up.
FORGER = """
import os, socket, subprocess, sys
sys.path.insert(0, "/usr/local/lib/practicum/session")
from practicum_session import client, records, wire
place = [one for one in client.places() if one.name == {course!r}][0]
munge = wire.Munge()
def ask(request, body=b"", credential=None):
    credential = credential or munge.close(request.text(), place.grader)
    with socket.create_connection((place.address, place.port), 60) as link:
        stream = link.makefile("rwb")
        stream.write(credential.encode() + b"\\n")
        stream.flush()
        line = stream.readline().decode()
        if line.startswith("MUNGE:"):
            reply = records.read_reply(munge.open(line.strip(), place.grader))
            line = reply.error or "GO"
            if body and not reply.error:
                stream.write(body)
                stream.flush()
                link.shutdown(socket.SHUT_WR)
                line = stream.readline().decode()
                if line.startswith("MUNGE:"):
                    reply = records.read_reply(munge.open(line.strip(), place.grader))
                    line = reply.error or "HANDED IN"
        print(line.strip())
import hashlib, io, secrets
def body(*files):
    out = io.BytesIO()
    for path, data in files:
        raw = path.encode()
        out.write(wire.PATH_LENGTH.pack(len(raw)) + raw + wire.SIZE.pack(len(data)) + data)
    out.write(wire.END)
    return out.getvalue()
def submit(data, files=1, **change):
    values = dict(op="submit", course=place.name, nonce=secrets.token_hex(16), assignment="ps1",
                  sha256=hashlib.sha256(data).hexdigest(), size=len(data), files=files)
    return records.Request(**{{**values, **change}})
"""

# Stock nbgrader with an exchange as it makes them
STOCK_SETUP = """
set -eu
umask 022
cd /tmp && rm -rf stock && mkdir -p stock/exchange/x/inbound stock/exchange/x/outbound/ps1 \
  stock/course/source/ps1
cp ~grader-hpc101/release/ps1/ps1.ipynb stock/exchange/x/outbound/ps1/
echo solutions > stock/course/source/ps1/secret
chown -R grader-hpc101: stock/exchange/x stock/course
chmod 777 stock/exchange; chmod 733 stock/exchange/x/inbound; chmod 700 stock/course
nbgrader="/nfs/envs/coursework/current/bin/nbgrader"
more="--course=x --Exchange.root=/tmp/stock/exchange"
as_ada() { runuser -u ada -- env -C /tmp/stock/ada HOME=/tmp/stock/ada "$@"; }
as_grader() {
  runuser -u grader-hpc101 -- env -C /tmp/stock/course HOME=/tmp/stock/course \\
    PATH=/nfs/envs/coursework/current/bin:/usr/bin:/bin "$@"
}
install -d -o ada stock/ada stock/ada/ps1
cp stock/exchange/x/outbound/ps1/ps1.ipynb stock/ada/ps1/
"""
# ada hands in for ben, sets the clock back, puts a link to what is the grader's; then something
# that cannot be read
STOCK_EXCHANGE = (
    STOCK_SETUP
    + """
as_ada "$nbgrader" submit ps1 $more --student=ben
there=$(echo /tmp/stock/exchange/x/inbound/ben+ps1+*)
as_ada sh -c "echo '2001-01-01 00:00:00.000000 UTC' > '$there/timestamp.txt'"
as_ada ln -s /tmp/stock/course/source/ps1/secret "$there/loot.txt"
as_grader "$nbgrader" collect ps1 $more
cat stock/course/submitted/ben/ps1/timestamp.txt stock/course/submitted/ben/ps1/loot.txt
as_ada "$nbgrader" submit ps1 $more
as_ada chmod 0 /tmp/stock/exchange/x/inbound/ada+ps1+*/ps1.ipynb
as_grader "$nbgrader" collect ps1 $more || echo "collecting failed"
"""
)


@pytest.fixture(scope="module")
def two(lab: Any, run_on: Any) -> Iterator[tuple[Course, Course]]:
    with courses(
        lab, run_on, ("hpc101", ["ines"], ["ada", "ben"]), ("phys", ["ines"], ["cleo"])
    ) as made:
        made[0].write_assignment("ps1")
        yield made[0], made[1]


@pytest.fixture
def hpc(two: tuple[Course, Course]) -> Course:
    return two[0]


def forge(course: Course, who: str, script: str) -> str:
    text = FORGER.format(course=course.name) + script
    done = course.run_on("node01", ["python3", "-I", "-"], user=who, input=text, timeout=120)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def fetched(course: Course, who: str) -> str:
    """The folder of ps1, fresh."""
    course.shell(who, f"chmod -R u+rwX ~/{course.name}; rm -rf ~/{course.name}", expect=None)
    course.student(who, "fetch", course.name, "ps1")
    return f"/home/{who}/{course.name}/ps1"


def test_a_student_fetches_hands_in_and_is_collected(hpc: Course) -> None:
    folder = fetched(hpc, "ada")
    book = hpc.shell("ada", f"cat {folder}/ps1.ipynb").stdout
    assert "BEGIN SOLUTION" not in book and "return x * x" not in book
    assert "you have" in hpc.student("ada", "fetch", "hpc101", "ps1", expect=1)

    before = len(hpc.listed("ada")["submissions"])
    said = hpc.student("ada", "submit", "hpc101", "ps1")
    assert "handed in: ps1, 1 files" in said
    receipt = said.strip().rsplit(" ", 1)[1]
    assert "genuine" in hpc.student("ada", "check", receipt)
    hpc.student("ada", "submit", "hpc101", "ps1")
    sent = hpc.listed("ada")["submissions"]
    assert len(sent) == before + 2  # every one is kept

    paper = hpc.shell("ada", f"cat {receipt}").stdout
    hpc.run_on("login", ["tee", "/home/ines/receipt.json"], user="ines", input=paper)
    assert "genuine: ada" in hpc.teach("receipt", "hpc101", "/home/ines/receipt.json")
    better = paper.replace('"number": ', '"number": 1')
    hpc.run_on("login", ["tee", "/home/ines/receipt.json"], user="ines", input=better)
    assert "not genuine" in hpc.teach("receipt", "hpc101", "/home/ines/receipt.json", expect=1)

    assert "ada" not in hpc.teach("collect", "hpc101", "ps1").partition("nothing from")[2]
    stamp = hpc.run_on("login", ["cat", "/nfs/courses/hpc101/submitted/ada/ps1/timestamp.txt"])
    assert stamp.stdout.endswith(" UTC")


def extensions(course: Course) -> str:
    """Who has which, in the gradebook."""
    asked = "SELECT student_id, extension FROM submitted_assignment WHERE extension IS NOT NULL"
    code = f"import sqlite3;print(sqlite3.connect('/nfs/courses/{course.name}/gradebook.db').execute({asked!r}).fetchall())"
    return str(course.run_on("login", ["python3", "-c", code]).stdout)


def test_due_dates_and_an_extension(hpc: Course) -> None:
    fetched(hpc, "ada"), fetched(hpc, "ben")
    hpc.teach("due", "hpc101", "ps1", "2020-01-01T12:00")
    hpc.teach("extend", "hpc101", "ps1", "ben", "2999-01-01T12:00")
    assert " late" in hpc.student("ada", "submit", "hpc101", "ps1")
    assert " late" not in hpc.student("ben", "submit", "hpc101", "ps1")
    assert hpc.listed("ada")["submissions"][-1]["late_seconds"] > 0
    hpc.teach("collect", "hpc101", "ps1")
    code = "import sqlite3;print(sqlite3.connect('/nfs/courses/hpc101/gradebook.db').execute('SELECT duedate FROM assignment').fetchall())"
    assert "2020-01-01 12:00" in hpc.run_on("login", ["python3", "-c", code]).stdout
    rows = extensions(hpc)
    assert "ben" in rows and "ada" not in rows
    # it counts from the due date on, so it follows that, and ends with it
    hpc.teach("due", "hpc101", "ps1", "2998-12-31T12:00")
    assert "1970-01-02" in extensions(hpc)
    hpc.teach("due", "hpc101", "ps1")
    assert extensions(hpc) == "[]\n"
    hpc.teach("due", "hpc101", "ps1", "2020-01-01T12:00")
    assert "ben" in extensions(hpc)
    # one that is taken back is late in the gradebook, too
    hpc.teach("extend", "hpc101", "ps1", "ben")
    assert extensions(hpc) == "[]\n"
    hpc.teach("due", "hpc101", "ps1")
    assert " late" not in hpc.student("ada", "submit", "hpc101", "ps1")


def test_a_due_date_can_be_set_before_it_is_handed_out(hpc: Course) -> None:
    hpc.write_source("week 2")
    assert "there is no" in hpc.teach("due", "hpc101", "week 3", "2999-01-01T12:00", expect=2)
    hpc.teach("due", "hpc101", "week 2", "2999-01-01T12:00")
    hpc.teach("release", "hpc101", "week 2")
    due = {one["name"]: one["due"] for one in hpc.listed("ada")["assignments"]}
    assert due["week 2"].startswith("29990101")


def test_what_was_written_goes_into_next_terms_course(hpc: Course) -> None:
    limits = '{"cell_seconds": 61}'
    own = ["runuser", "-u", "grader-hpc101", "--", "tee", "/nfs/courses/hpc101/grading.json"]
    hpc.run_on("login", own, input=limits)
    hpc.write_source("week 1")  # names may hold blanks
    assert "the admin makes it" in hpc.teach("copy", "hpc101", "hpc102", expect=2)
    hpc.teach("copy", "hpc101", "phys")
    there = hpc.run_on("login", ["ls", "/nfs/courses/phys/source/week 1"]).stdout
    assert there == "week 1.ipynb\n"
    grading = "/nfs/courses/phys/grading.json"
    assert hpc.run_on("login", ["cat", grading]).stdout == limits
    hpc.run_on("login", own, input="{}")
    assert "stays as it is" in hpc.teach("copy", "hpc101", "phys")
    assert hpc.run_on("login", ["cat", grading]).stdout == limits


def test_one_bad_submission_stops_nobody_elses(hpc: Course) -> None:
    fetched(hpc, "ada"), fetched(hpc, "ben")
    for who in ("ada", "ben"):
        hpc.student(who, "submit", "hpc101", "ps1")
    newest = {who: hpc.listed(who)["submissions"][-1]["submitted"] for who in ("ada", "ben")}
    # what should never be: the first one's has lost its receipt
    kept = f"/nfs/courses/hpc101/exchange/inbound/ada/ps1/{newest['ada']}"
    hpc.run_on("login", ["mv", f"{kept}/receipt.json", f"{kept}/files/lost"])
    said = hpc.teach("collect", "hpc101", "ps1", expect=1)
    assert "not collected: ada; all the others were" in said
    stamp = "/nfs/courses/hpc101/submitted/ben/ps1/timestamp.txt"
    digits = "".join(c for c in hpc.run_on("login", ["cat", stamp]).stdout if c.isdigit())
    assert digits == "".join(c for c in newest["ben"] if c.isdigit())
    hpc.run_on("login", ["mv", f"{kept}/files/lost", f"{kept}/receipt.json"])
    hpc.teach("collect", "hpc101", "ps1")


def test_students_reach_nothing_of_the_course_but_what_is_theirs(
    two: tuple[Course, Course],
) -> None:
    hpc, phys = two
    for place in (
        "/nfs/courses/hpc101",
        "/nfs/courses/hpc101/exchange",
        "/nfs/courses/hpc101/source/ps1",
    ):
        for node in ("node01", "login"):
            assert hpc.shell("ada", f"ls {place}", node=node, expect=None).returncode != 0
    assert "you do not teach" in hpc.teach("collect", "hpc101", "ps1", who="ada", expect=1)
    grader = hpc.shell("ada", "sudo -n -u grader-hpc101 id", node="login", expect=None)
    assert grader.returncode != 0
    # an instructor becomes the grader for verbs of a course, and nobody else
    root = hpc.shell("ines", "sudo -n -u root id || sudo -n -u ada id", node="login", expect=None)
    assert root.returncode != 0
    assert "not in a course" in phys.student("ada", "fetch", "phys", "ps1", expect=1)
    said = forge(phys, "ada", 'ask(records.Request("list", "phys", secrets.token_hex(16)))')
    assert "not in the course" in said


def test_nobody_hands_in_for_another(hpc: Course) -> None:
    fetched(hpc, "ada")
    before = len(hpc.listed("ben")["submissions"])
    assert "your own" in hpc.student("ada", "submit", "hpc101", "ps1", "--student", "ben", expect=1)
    # a request has no place for a name; one that makes it up is no request
    said = forge(hpc, "ada", """
data = body(("ps1.ipynb", b"{}"))
class Named:
    def text(self):
        import json
        return json.dumps({**json.loads(submit(data).text()), "student": "ben"})
ask(Named(), data)
""")  # fmt: skip
    assert "no field is called 'student'" in said
    assert len(hpc.listed("ben")["submissions"]) == before


def test_what_stocks_exchange_lets_students_do(hpc: Course) -> None:
    done = hpc.run_on("login", ["bash", "-c", STOCK_EXCHANGE])
    hpc.run_on("login", ["rm", "-rf", "/tmp/stock"])
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.splitlines()[-3:] == [
        "2001-01-01 00:00:00.000000 UTC", "solutions", "collecting failed",
    ]  # fmt: skip


def test_a_credential_counts_once_and_in_its_own_course(two: tuple[Course, Course]) -> None:
    hpc, phys = two
    fetched(hpc, "ada")
    said = forge(hpc, "ada", """
data = body(("ps1.ipynb", b"{}"))
request = submit(data)
once = munge.close(request.text(), place.grader)
ask(request, data, once)
ask(request, data, once)
ask(request, data)   # a new credential over the same nonce
ask(submit(data, course="phys"), data)
""").splitlines()  # fmt: skip
    assert said[0] == "HANDED IN", said
    assert "used before" in said[1] and "used before" in said[2] and "not phys" in said[3], said
    other = forge(phys, "cleo", f"""
data = body(("ps1.ipynb", b"{{}}"))
request = submit(data)
ask(request, data, munge.close(request.text(), {50000}))
""")  # fmt: skip
    assert "another user" in other or "refused" in other


def test_munge_forgets_and_the_ledger_does_not(hpc: Course) -> None:
    fetched(hpc, "ada")
    forge(hpc, "ada", """
data = body(("ps1.ipynb", b"{}"))
request = submit(data, nonce="ab" * 16)
open("/home/ada/credential", "w").write(munge.close(request.text(), place.grader))
ask(request, data, open("/home/ada/credential").read())
""")  # fmt: skip
    hpc.run_on("login", ["systemctl", "restart", "munge"])
    hpc.run_on("login", ["systemctl", "restart", "practicum-spool-hpc101.service"])
    said = forge(hpc, "ada", """
data = body(("ps1.ipynb", b"{}"))
ask(submit(data), data, open("/home/ada/credential").read())
""")  # fmt: skip
    assert "used before" in said


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("data = body(('../../ben/x', b'1')); ask(submit(data), data)", "not a path inside"),
        ("data = body(('/etc/x', b'1')); ask(submit(data), data)", "not a path inside"),
        ("data = body(('a', b'1'), ('a/b', b'2')); ask(submit(data, 2), data)", "came twice"),
        ("data = body(('a', b'1'), ('a', b'2')); ask(submit(data, 2), data)", "came twice"),
        ("data = body(('a', b'1'), ('b', b'2')); ask(submit(data, 1), data)", "more files came"),
        ("data = body(('a', b'1')); ask(submit(data, size=10**12), data)", "at most"),
        ("data = body(('a', b'1')); ask(submit(data, files=100000), data)", "a submission has"),
        ("data = body(('a', b'1')); ask(submit(data, sha256='0' * 64), data)", "not what was announced"),
        ("data = body(('a', b'1')); ask(submit(data, size=len(data) - 2), data)", "less came"),
        ("data = body(('a', b'1')); ask(submit(data, assignment='other'), data)", "no assignment other"),
    ],
)  # fmt: skip
def test_a_made_up_submission_changes_nothing(hpc: Course, what: str, said: str) -> None:
    before = hpc.listed("ada")["submissions"]
    assert said in forge(hpc, "ada", what)
    assert hpc.listed("ada")["submissions"] == before
    left = hpc.run_on("login", ["ls", "/nfs/courses/hpc101/exchange/incoming"]).stdout
    assert left == ""


@pytest.mark.parametrize(
    ("make", "said", "code"),
    [
        ("ln -s /nfs/courses/hpc101/gradebook.db g; ln -s /etc/passwd p", "is a link", 0),
        ("mkfifo pipe", "no regular file", 0),
        ("truncate -s 1T sparse", "more than 20 MB", 1),
        ("touch f{1..300}", "more than 200 files", 1),
        ("echo x > secret; chmod 0 secret", "cannot be read", 1),
        ("touch $'new\\nline'", "control characters", 1),
    ],
)
def test_what_is_no_file_is_not_handed_in(hpc: Course, make: str, said: str, code: int) -> None:
    folder = fetched(hpc, "ada")
    hpc.shell("ada", f"cd {folder} && {make}")
    assert said in hpc.student("ada", "submit", "hpc101", "ps1", expect=code)
    if code == 0:
        newest = hpc.listed("ada")["submissions"][-1]["submitted"]
        inside = f"/nfs/courses/hpc101/exchange/inbound/ada/ps1/{newest}/files"
        assert hpc.run_on("login", ["ls", inside]).stdout == "ps1.ipynb\n"


def test_a_time_of_ones_own_is_not_the_time(hpc: Course) -> None:
    """Stock believes timestamp.txt, which the student writes."""
    folder = fetched(hpc, "ada")
    mine = "2001-01-01 00:00:00.000000 UTC"
    hpc.shell("ada", f"echo '{mine}' > {folder}/timestamp.txt")
    hpc.student("ada", "submit", "hpc101", "ps1")
    said = forge(
        hpc,
        "ada",
        f"data = body(('timestamp.txt', b'{mine}'), ('ps1.ipynb', b'{{}}')); "
        "ask(submit(data, 2), data)",
    )
    assert "HANDED IN" in said
    # the instructor sees what students see, and is not collected
    assert "ps1" in hpc.student("ines", "list", node="login")
    fetched(hpc, "ines")
    hpc.student("ines", "submit", "hpc101", "ps1", node="login")
    hpc.teach("collect", "hpc101", "ps1")
    stamp = hpc.run_on("login", ["cat", "/nfs/courses/hpc101/submitted/ada/ps1/timestamp.txt"])
    assert stamp.stdout and not stamp.stdout.startswith("2001")
    assert hpc.run_on("login", ["ls", "/nfs/courses/hpc101/submitted/ines"]).returncode != 0


def test_feedback_is_the_students_alone(hpc: Course) -> None:
    fetched(hpc, "ada"), fetched(hpc, "ben")
    # a page of ada's own in the place of feedback
    said = forge(
        hpc,
        "ada",
        "data = body(('ps1.html', b'full marks'), ('ps1.ipynb', b'{}')); ask(submit(data, 2), data)",
    )
    assert "HANDED IN" in said
    hpc.student("ben", "submit", "hpc101", "ps1")
    hpc.teach("collect", "hpc101", "ps1")
    course = "/nfs/courses/hpc101"
    assert hpc.run_on("login", ["ls", f"{course}/submitted/ada/ps1"]).stdout.split() == [
        "ps1.ipynb", "receipt.json", "timestamp.txt",
    ]  # fmt: skip
    made = f"mkdir -p {course}/feedback/ada/ps1 && echo '<p>well done</p>' > {course}/feedback/ada/ps1/ps1.html"
    hpc.run_on("login", ["runuser", "-u", "grader-hpc101", "--", "sh", "-c", made])
    hpc.teach("give-back", "hpc101", "ps1")
    hpc.student("ada", "feedback", "hpc101", "ps1")
    assert "well done" in hpc.shell("ada", "cat ~/hpc101/ps1/feedback/*/ps1.html").stdout
    assert "no feedback" in hpc.student("ben", "feedback", "hpc101", "ps1", expect=1)
    sent = json.dumps(hpc.listed("ada")["submissions"][-1]["submitted"])
    stolen = forge(
        hpc,
        "ben",
        f'ask(records.Request("feedback", "hpc101", secrets.token_hex(16), "ps1", submitted={sent}))',
    )
    assert "no feedback" in stolen


def test_grades_are_exported_for_everybody(hpc: Course) -> None:
    """With their names; who is not in the course any more is told, not counted."""
    nbgrader = ["/nfs/envs/coursework/current/bin/nbgrader", "db", "student", "add", "eve"]
    config = "JUPYTER_CONFIG_DIR=/etc/practicum/courses/hpc101"
    path = "PATH=/nfs/envs/coursework/current/bin:/usr/bin:/bin"
    course = "/nfs/courses/hpc101"
    as_grader = ["runuser", "-u", "grader-hpc101", "--", "env", "-C", course, f"HOME={course}"]
    done = hpc.run_on("login", [*as_grader, config, path, *nbgrader])
    assert done.returncode == 0, done.stderr
    rows = hpc.teach("grades", "hpc101").splitlines()
    assert rows[0].startswith("assignment,")
    assert any(",ada,Lovelace,Ada," in row for row in rows)
    assert any(",ben,Alvarez,Ben," in row for row in rows)
    assert not any(",eve," in row for row in rows)
    assert "not in hpc101 any more: eve" in rows[-1]
    assert ",eve," in hpc.teach("grades", "hpc101", "--all")


def test_the_spooler_sees_the_exchange_alone(hpc: Course) -> None:
    pid = hpc.run_on(
        "login", ["systemctl", "show", "-P", "MainPID", "practicum-spool-hpc101"]
    ).stdout
    seen = hpc.run_on("login", ["ls", f"/proc/{pid.strip()}/root/nfs/courses/hpc101"]).stdout
    assert seen.split() == ["exchange", "ledger"]
    port = hpc.shell(
        "ada",
        "python3 -c \"import socket;socket.create_server(('', 602))\"",
        node="login",
        expect=None,
    )
    assert "Permission denied" in port.stderr
    assert ASSIGNMENT.endswith("assignment")


def test_an_archived_course_gives_back_and_takes_nothing(
    lab: Any, two: tuple[Course, Course]
) -> None:
    """The last: phys stays archived."""
    phys = two[1]
    phys.write_assignment("ps1")
    fetched(phys, "cleo")
    receipt = phys.student("cleo", "submit", "phys", "ps1").strip().rsplit(" ", 1)[1]
    phys.teach("collect", "phys", "ps1")
    page = "feedback/cleo/ps1/ps1.html"
    made = f"cd /nfs/courses/phys && mkdir -p feedback/cleo/ps1 && echo fine > {page}"
    phys.run_on("login", ["runuser", "-u", "grader-phys", "--", "sh", "-c", made])
    phys.teach("give-back", "phys", "ps1")
    words = ["course", "archive", "phys", "--yes", "--file", str(lab.cluster_toml)]
    assert practicum(words) == 0
    no = "phys is archived: nothing is handed out or in any more"
    assert no in phys.student("cleo", "submit", "phys", "ps1", expect=1)
    assert no in phys.student("cleo", "fetch", "phys", "ps1", "--missing", expect=1)
    listed = phys.student("cleo", "list", "phys")
    assert "(archived)" in listed and "feedback is there" in listed
    phys.student("cleo", "feedback", "phys", "ps1")
    assert phys.shell("cleo", "cat ~/phys/ps1/feedback/*/ps1.html").stdout == "fine\n"
    assert "genuine" in phys.student("cleo", "check", receipt)
