"""A session's own API: cells in kernels, as a notebook runs them."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import requests
from student import Student
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

CELL_SECONDS = 180


class Session:
    """A started session, with a token of its owner's."""

    def __init__(self, student: Student) -> None:
        made = student.api("POST", "/tokens", json={"note": "test"})
        assert made.status_code == 201, made.text
        self.headers = {"Authorization": f"token {made.json()['token']}"}
        self.url = f"{student.hub}/user/{student.name}"
        self.web = requests.Session()
        self.web.trust_env = False
        self.web.headers.update(self.headers)

    def api(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.web.request(method, f"{self.url}{path}", timeout=60, **more)

    def kernel(self, name: str = "") -> str:
        """A new kernel's id; the default kernel's if no name is given."""
        made = self.api("POST", "/api/kernels", json={"name": name} if name else {})
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def end(self, kernel: str) -> None:
        """End it, and with it its hold on its files."""
        ended = self.api("DELETE", f"/api/kernels/{kernel}")
        assert ended.status_code == 204, ended.text

    def cell(self, kernel: str, code: str) -> str:
        """What the cell printed, errors included."""
        return asyncio.run(asyncio.wait_for(self._cell(kernel, code), CELL_SECONDS))

    async def _cell(self, kernel: str, code: str) -> str:
        url = self.url.replace("http", "ws", 1) + f"/api/kernels/{kernel}/channels"
        socket = await websocket_connect(HTTPRequest(url, headers=self.headers))
        ident = uuid.uuid4().hex
        header = {"msg_id": ident, "msg_type": "execute_request", "username": "", "version": "5.3",
                  "session": uuid.uuid4().hex, "date": ""}  # fmt: skip
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {},
                   "allow_stdin": False, "stop_on_error": True}  # fmt: skip
        message = {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell",
                   "buffers": [], "content": content}  # fmt: skip
        await socket.write_message(json.dumps(message))
        said, replied, idle = "", False, False
        while not (replied and idle):
            event = await socket.read_message()
            assert event is not None, "the kernel's websocket was closed"
            event = json.loads(event)
            if event["parent_header"].get("msg_id") != ident:
                continue
            kind, body = event["msg_type"], event["content"]
            if kind == "stream":
                said += body["text"]
            elif kind == "error":
                said += "\n".join(body["traceback"])
            replied = replied or kind == "execute_reply"
            idle = idle or (kind == "status" and body["execution_state"] == "idle")
        socket.close()
        return said

    def terminal(self, text: str) -> None:
        """A new terminal, with that typed into it."""
        made = self.api("POST", "/api/terminals")
        assert made.status_code == 200, made.text
        asyncio.run(asyncio.wait_for(self._type(made.json()["name"], text), CELL_SECONDS))

    async def _type(self, name: str, text: str) -> None:
        url = self.url.replace("http", "ws", 1) + f"/terminals/websocket/{name}"
        socket = await websocket_connect(HTTPRequest(url, headers=self.headers))
        await socket.write_message(json.dumps(["stdin", text + "\r"]))
        while (said := await socket.read_message()) is not None:
            if "@typed" in said:  # the shell's echo of the end
                break
        socket.close()
