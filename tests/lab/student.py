"""Students without a browser: the hub's log-in, pages and API, and what tests ask about them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from waiting import until

START = 180  # seconds that a start may take on a busy two-core machine


class Student:
    """A browser's cookies and the hub's own pages and API."""

    def __init__(self, lab: Any, name: str, secret: str = "") -> None:
        self.hub = lab.hub_url.rstrip("/")
        self.name = name
        self.server_name = ""  # of the server that start() and events() mean
        self.web = requests.Session()
        self.web.trust_env = False  # the lab's addresses are not a proxy's matter
        self.web.get(f"{self.hub}/hub/login", timeout=30).raise_for_status()
        known = (account.password for account in lab.accounts if account.name == name)
        secret = secret or next(known)
        self.web.post(
            f"{self.hub}/hub/login",
            params=self.xsrf,
            data={"username": name, "password": secret},
            timeout=30,
        ).raise_for_status()
        self.web.get(f"{self.hub}/hub/home", timeout=30).raise_for_status()

    @property
    def xsrf(self) -> dict[str, str]:
        found = [
            item.value for item in self.web.cookies if item.name == "_xsrf" and "/hub" in item.path
        ]
        return {"_xsrf": found[-1]} if found else {}

    def api(self, method: str, path: str, **more: Any) -> requests.Response:
        url = f"{self.hub}/hub/api/users/{self.name}{path}"
        return self.web.request(method, url, params=self.xsrf, timeout=60, **more)

    def start(self, **options: Any) -> requests.Response:
        return self.api("POST", self.server, json=options)

    @property
    def server(self) -> str:
        return f"/servers/{self.server_name}" if self.server_name else "/server"

    def events(self) -> Iterator[dict[str, Any]]:
        """The progress that the page shows, to its end."""
        with self.api("GET", f"{self.server}/progress", stream=True) as answer:
            answer.raise_for_status()
            end = time.monotonic() + START
            for line in answer.iter_lines():
                assert time.monotonic() < end, "the start takes too long"
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    yield event
                    if event.get("ready") or event.get("failed"):
                        return

    def outcome(self, **options: Any) -> tuple[dict[str, Any], list[str]]:
        """Start and wait: the last event, and all messages before it."""
        for _try in range(5):
            answer = self.start(**options)
            if answer.status_code not in (201, 202):  # refused, or failed before the hub answered
                return {"failed": True, **answer.json()}, []
            try:
                *before, last = list(self.events())
            except requests.HTTPError as error:
                # failed between the two: the hub then has no progress to tell
                assert error.response.status_code == 400, error
                until(lambda: self.server_name not in self.servers())  # it may still be stopping
                continue
            return last, [event["message"] for event in before]
        raise AssertionError("no start was slow enough to be watched")

    def servers(self) -> list[str]:
        """Names of those that start, run or stop."""
        return list(self.api("GET", "").json().get("servers", {}))

    def stop(self) -> None:
        for name in self.servers() or [""]:
            self.api("DELETE", f"/servers/{name}" if name else "/server")
        until(lambda: not self.servers(), 60)


@pytest.fixture
def student(lab: Any) -> Iterator[Callable[[str], Student]]:
    """`student(name)` logs in; all their sessions are stopped in the end, and at first those that
    an earlier test left."""
    made: list[Student] = []

    def log_in(name: str) -> Student:
        made.append(Student(lab, name))
        if made[-1].servers():
            made[-1].stop()
        return made[-1]

    yield log_in
    for one in made:
        one.stop()


def text(done: Any) -> str:
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def jobs(run_on: Any, user: str) -> list[list[str]]:
    """[number, state] of the sessions' jobs of a user."""
    rows = text(run_on("login", ["squeue", "-h", "-n", "practicum-hub", "-u", user, "-o", "%i %T"]))
    return [row.split() for row in rows.splitlines()]


def no_jobs_left(run_on: Any, user: str, *which: str) -> None:
    """Wait until Slurm lists none of somebody's jobs (of those that squeue's words say): it does
    until the epilog is over, which ends what else they run on that node."""

    def gone() -> bool:
        done = run_on("login", ["squeue", "-h", "-u", user, *which])
        return done.returncode == 0 and not done.stdout.strip()

    until(gone, 180)


def hub_is_back(one: Student) -> bool:
    try:
        return one.api("GET", "").status_code == 200
    except requests.RequestException:
        return False


def alive(one: Student) -> bool:
    """Its session answers through the proxy, to the browser that is logged in."""
    try:
        one.web.get(f"{one.hub}/user/{one.name}/lab", timeout=30)
        return one.web.get(f"{one.hub}/user/{one.name}/api/status", timeout=30).status_code == 200
    except requests.RequestException:
        return False


def page(one: Student) -> str:
    """What the hub shows to somebody who opens the address of their session."""
    answer = one.web.get(
        f"{one.hub}/user/{one.name}/lab", headers={"Accept": "text/html"}, timeout=30
    )
    return answer.text
