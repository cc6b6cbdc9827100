"""A student without a browser: the hub's log-in, pages and API."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import requests

START = 180  # seconds that a start may take on a busy two-core machine


class Student:
    """A browser's cookies and the hub's own pages and API."""

    def __init__(self, lab: Any, name: str) -> None:
        self.hub = lab.hub_url.rstrip("/")
        self.name = name
        self.server_name = ""  # of the server that start() and events() mean
        self.web = requests.Session()
        self.web.trust_env = False  # the lab's addresses are not a proxy's matter
        self.web.get(f"{self.hub}/hub/login", timeout=30).raise_for_status()
        secret = next(account.password for account in lab.accounts if account.name == name)
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
            if answer.status_code == 503:  # it failed before the hub answered
                return {"failed": True, **answer.json()}, []
            assert answer.status_code in (201, 202), answer.text
            try:
                *before, last = list(self.events())
            except requests.HTTPError as error:
                # failed between the two: the hub then has no progress to tell
                assert error.response.status_code == 400, error
                continue
            return last, [event["message"] for event in before]
        raise AssertionError("no start was slow enough to be watched")

    def servers(self) -> list[str]:
        """Names of those that start, run or stop."""
        return list(self.api("GET", "").json().get("servers", {}))

    def stop(self) -> None:
        for name in self.servers() or [""]:
            self.api("DELETE", f"/servers/{name}" if name else "/server")
        end = time.monotonic() + 60
        while self.servers():
            assert time.monotonic() < end, "the session does not stop"
            time.sleep(0.5)
