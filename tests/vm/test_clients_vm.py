"""One file server and two clients at once: `head` serves, and the same student works on `node01` and
`node02`. What one writes, the other sees; locks and quotas are of both together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from vmkit import described
from vmkit.described import DATA_DISK
from vmkit.use import WRITER, Vms, changes

pytestmark = pytest.mark.vm

CLIENTS = ("node01", "node02")
QUOTA = """
[[quotas]]
group = "students"
hard_mb = 30
"""
# By SQLite, whose locks are fcntl's: so nbgrader and Jupyter's file ids have them.
COUNT = """
import sqlite3, sys
book = sqlite3.connect("/home/ada/book.db", timeout=120, isolation_level=None)
book.execute("create table if not exists seen (node text, number int)")
for number in range(int(sys.argv[2])):
    book.execute("begin immediate")
    last, = book.execute("select coalesce(max(number), 0) from seen").fetchone()
    book.execute("insert into seen values (?, ?)", (sys.argv[1], last + 1))
    book.execute("commit")
"""
HOLD = """
import fcntl, time
with open("/home/ada/lock", "w") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(600)
"""
TAKE = """
import fcntl, sys, time
with open("/home/ada/lock", "w") as file:
    end = time.monotonic() + float(sys.argv[1])
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print("taken")
            break
        except BlockingIOError:
            if time.monotonic() > end:
                print("busy")
                break
            time.sleep(0.5)
"""
# Looks every half second, as the file browser does, until the file is in the folder's list.
LOOK = """
import os, time
begun = time.monotonic()
print("looks", sorted(os.listdir("/home/ada")), os.path.exists("/home/ada/new"), flush=True)
while "new" not in os.listdir("/home/ada") or not os.path.exists("/home/ada/new"):
    time.sleep(0.5)
print(f"{time.monotonic() - begun:.1f}")
"""


def served(text: str) -> str:
    return described.served(text, "quotas = true") + QUOTA


@pytest.fixture(scope="module")
def clients(three_vms: Vms) -> Vms:
    begun = time.monotonic()
    three_vms.apply(served, format_=DATA_DISK)
    print(f"three machines in {time.monotonic() - begun:.0f} s")
    return three_vms


@pytest.fixture
def ada(clients: Vms) -> Iterator[Vms]:
    """Her home is there, and empty before and after."""
    clear = ["sh", "-c", "rm -rf /home/ada/*"]
    clients.check_on("node01", clear, user="ada")
    yield clients
    clients.check_on("node01", clear, user="ada")


def python(vms: Vms, node: str, program: str, *words: str) -> str:
    return vms.check_on(node, ["python3", "-c", program, *words], user="ada", timeout=900)


def test_a_second_apply_changes_nothing(clients: Vms) -> None:
    assert changes(clients.plan()) == []


def test_a_job_on_both_nodes_writes_into_one_folder(ada: Vms) -> None:
    ada.until_idle()
    script = "echo $SLURM_PROCID > part-$SLURM_PROCID && hostname"
    words = ["srun", "--nodes=2", "--ntasks-per-node=2", "--mem-per-cpu=100", "--chdir=/home/ada"]
    said = ada.check_on("head", [*words, "sh", "-c", script], user="ada", timeout=300)
    assert sorted(said.split()) == ["node01", "node01", "node02", "node02"]
    ada.until_idle()
    for node in CLIENTS:
        parts = ada.check_on(node, ["sh", "-c", "cat /home/ada/part-*"], user="ada")
        assert parts == "0\n1\n2\n3\n"


def test_what_one_writes_the_other_sees_soon(ada: Vms) -> None:
    """Also a file that was looked for before it was there, and one that was replaced."""
    with ThreadPoolExecutor(1) as pool:
        looks = pool.submit(python, ada, "node01", LOOK)
        time.sleep(5)
        ada.check_on("node02", ["sh", "-c", "echo one > /home/ada/new"], user="ada")
        written = time.monotonic()
        said = looks.result()
    print(f"seen {time.monotonic() - written:.1f} s after it was written: {said}")
    assert time.monotonic() - written < 15
    assert ada.check_on("node01", ["cat", "/home/ada/new"], user="ada") == "one\n"
    for text in ("two", "three"):
        swap = f"echo {text} > /home/ada/other && mv /home/ada/other /home/ada/new"
        ada.check_on("node02", ["sh", "-c", swap], user="ada")
        begun = time.monotonic()
        ada.until("node01", ["cat", "/home/ada/new"],
                  lambda seen, text=text: seen == f"{text}\n", 15, user="ada")  # fmt: skip
        print(f"replaced file seen after {time.monotonic() - begun:.1f} s")


def test_locks_hold_between_them(ada: Vms) -> None:
    """Two programs count in one SQLite file, and no number comes twice."""
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(python, ada, node, COUNT, node, "40") for node in CLIENTS]
        for one in both:
            one.result()
    ask = "select count(*), count(distinct number), max(number), count(distinct node) from seen"
    program = (
        f"import sqlite3; print(*sqlite3.connect('/home/ada/book.db').execute({ask!r}).fetchone())"
    )
    assert python(ada, "node01", program) == "80 80 80 2\n"


def test_a_quota_is_of_both_together(ada: Vms) -> None:
    assert ada.fill("node01", "ada", "/home/ada/one", 20) == ""
    assert "Disk quota exceeded" in ada.fill("node02", "ada", "/home/ada/two", 20)
    ada.check_on("node02", ["rm", "/home/ada/one"], user="ada")  # the other's file
    assert ada.fill("node02", "ada", "/home/ada/two", 20) == ""


def test_both_go_on_when_the_server_starts_again(ada: Vms) -> None:
    """Each claims what it had open, and nothing is lost."""
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(python, ada, node, WRITER, f"/home/ada/lines-{node}", "300")
                for node in CLIENTS]  # fmt: skip
        for node in CLIENTS:
            ada.until("head", ["cat", f"/srv/practicum/home/ada/lines-{node}"],
                      lambda text: text.count("\n") > 20)  # fmt: skip
        ada.reboot("head")
        for one in both:
            one.result()
    for node in CLIENTS:
        text = ada.check_on("head", ["cat", f"/srv/practicum/home/ada/lines-{node}"])
        assert text == "".join(f"{number}\n" for number in range(300))


def test_the_lock_of_a_client_that_died_is_free_soon(ada: Vms) -> None:
    """After the server's lease, not after somebody restarts it; and the client comes back."""
    hold = f"python3 -c '{HOLD}' > /home/ada/held 2>&1 &"
    ada.check_on("node01", ["sh", "-c", hold], user="ada")
    ada.until("node01", ["cat", "/home/ada/held"], lambda text: text == "held\n", user="ada")
    assert python(ada, "node02", TAKE, "0") == "busy\n"
    ada.power_off("node01")
    try:
        begun = time.monotonic()
        assert python(ada, "node02", TAKE, "120") == "taken\n"
        print(f"taken {time.monotonic() - begun:.1f} s after its holder lost its power")
    finally:
        ada.power_on("node01")
    assert ada.check_on("node01", ["ls", "/home/ada"], user="ada").split() == ["held", "lock"]
