"""Submissions that attack: the same texts for practicum (test_grading_lab.py) and for stock nbgrader
(test_stock_adversaries_slow.py). Nothing here runs but under grading on a lab."""

from __future__ import annotations

from typing import Any

GOOD = "def f(x):\n    return x + 1"
STRIPPER = """import ast
class T(ast.NodeTransformer):
    def visit_Assert(self, node): return None
get_ipython().ast_transformers.append(T())"""
LOOK = """import glob, os, socket
def reached(*where):
    try:
        socket.create_connection(where, 3).close()
        return True
    except OSError:
        return False
print("network", reached("login", 22), reached("127.0.0.1", 22), reached("127.0.0.1", 6818))
print("munge", os.path.exists("/run/munge/munge.socket.2"))
print("processes", len([p for p in os.listdir("/proc") if p.isdigit()]) < 10)
print("homes", os.listdir("/home"), "courses", glob.glob("/nfs/courses/*"))
print("kept", os.path.exists("/tmp/left"), os.path.exists("/dev/shm/left"))
"""
LEAVE = """import subprocess
open("/tmp/left", "w").write("x")
open("/dev/shm/left", "w").write("x")
subprocess.Popen(["sleep", "98765"], start_new_session=True)
"""
# stops the kernel's own end, too
BOMB = """import os
while True:
    try:
        os.fork()
    except OSError:
        break
"""
ENDLESS = """import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""
# a result, a grade and a proof of its own, wherever it can write
FORGE = """import glob, json, os, sqlite3
result = {"notebooks": {"hw": {"cells": {}, "failure": ""}}, "seconds": 1}
wrote = []
for folder in [os.getcwd(), "/nfs/courses/.grading", "/nfs/courses/grd",
               *glob.glob("/nfs/courses/.grading/*"), *glob.glob("/nfs/courses/.grading/*/*/out")]:
    for name in ("right.json", "forger.json", "gradebook.db"):
        try:
            open(os.path.join(folder, name), "w").write(json.dumps(result))
            wrote.append(folder)
        except OSError:
            pass
print("wrote", sorted(set(wrote)) == [os.getcwd()])
def f(x):
    raise type("PracticumPassed", (Exception,), {})("0" * 32 + " 3.0")
"""
MARKUP = """
from IPython.display import HTML, display
display(HTML("<b>x</b><script>evil()</script>"))
display({"image/png": 'x" onerror="evil()'}, raw=True)
display({"text/latex": r"$\\href{javascript:evil()}{x}$"}, raw=True)
"""
# a neighbour's notebook is read, and its answer taken
THIEF = """import glob, json
for path in glob.glob("/nfs/courses/*/submitted/right/*/hw.ipynb"):
    exec("".join(json.load(open(path))["cells"][1]["source"]))
"""
# marks of its own in the gradebook, and a page in the place of feedback
CRACKER = """import glob, os, sqlite3
for path in glob.glob("/nfs/courses/*/gradebook.db"):
    with sqlite3.connect(path, 20) as book:
        book.execute("UPDATE grade SET manual_score = 77 WHERE notebook_id IN ("
                     "SELECT n.id FROM submitted_notebook n JOIN submitted_assignment s"
                     " ON n.assignment_id = s.id WHERE s.student_id = 'cracker')")
for folder in glob.glob("/nfs/courses/*/submitted/cracker/*"):
    page = folder.replace("/submitted/", "/feedback/")
    os.makedirs(page, exist_ok=True)
    open(page + "/hw.html", "w").write("<p>full marks</p>")
"""
# a fork bomb with an end: more processes than the tests' limit (64), and no more
FORKER = """import os, signal
children = []
try:
    for _ in range(100):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        children.append(child)
except OSError:
    pass
print("forked", len(children))
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
# the number that shows that a test ran to its end, looked for where it might lie
READER = """import glob, re
def f(x):
    text = repr(get_ipython().user_ns.get("In"))
    for path in glob.glob("**", recursive=True):
        text += open(path).read() if path.endswith((".ipynb", ".json")) else ""
    number = re.search(r"[^0-9a-f]([0-9a-f]{32})[^0-9a-f]", text)
    print("number", number is not None)
    raise type("PracticumPassed", (Exception,), {})(f"{number and number[1]} 3.0")
"""
ATTACKS: dict[str, dict[str, Any]] = {
    "right": {"answer": GOOD},
    "wrong": {"answer": "def f(x):\n    return 0"},
    "stripper": {"answer": "def f(x):\n    return 0", "first": STRIPPER},
    "leaver": {"answer": GOOD, "first": LEAVE},
    "looker": {"answer": GOOD, "first": LOOK},
    "quitter": {"answer": "import os\nos._exit(0)"},
    "looper": {"answer": "while True:\n    pass"},
    "endless": {"answer": ENDLESS},
    "forger": {"answer": FORGE},
    "bomber": {"answer": GOOD, "first": BOMB},
    "forker": {"answer": GOOD, "first": FORKER},
    "thief": {"answer": THIEF},
    "reader": {"answer": READER},
    # a cell to be graded by hand says that it is a test, and an essay that it is the instructor's
    "relabeller": {"answer": "def f(x):\n    return 0", "plot": "pass", "essay": "<script>evil()</script>",
                   "about": {"plot": {"solution": False},
                             "essay": {"solution": False, "task": True}}},
    "empty": {"raw": "{}"},
    "absent": {"raw": None, "files": {"other.txt": "x"}},
    "cracker": {"answer": CRACKER},
    "hog": {"answer": "kept = bytes(10**10)\n" + GOOD},  # asked for, never filled
    "writer": {"answer": GOOD + MARKUP,
               "essay": "<script>evil()</script> [x](java&#115;cript:evil())"},
}  # fmt: skip


SPY = """import glob, os, signal
try:
    os.kill(-1, signal.SIGKILL)
except ProcessLookupError:
    pass
known = [open(f"/proc/{pid}/cmdline").read() for pid in os.listdir("/proc") if pid.isdigit()]
print("spied", any("grade_task" in one or "kernel.json" in one for one in known[2:]),
      glob.glob("/nfs/courses/.grading/*"), glob.glob("/tmp/*/work"), glob.glob("/scratch/*"))
"""
WAITS = "import time\nopen('mine.txt', 'w').write('mine')\ntime.sleep(7)\n" + GOOD
# by turns in the first slot, which takes a, c and e, and the second, b and d
NEIGHBOURS = {
    "a": {"answer": GOOD, "first": LEAVE},
    "b": {"answer": WAITS},
    "c": {"answer": GOOD, "first": LOOK},
    "d": {"answer": WAITS},
    "e": {"answer": GOOD, "first": SPY},
}
