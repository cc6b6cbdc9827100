"""Starts a kernel as Jupyter would, runs one cell in it, and tells. Run by a Python that has
jupyter_client: trial.py NAME CODE, with JUPYTER_PATH set; one JSON object on standard output,
{"ok": bool, "seconds": to the answer, "output": text}.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from typing import Any

START_SECONDS = 90
CELL_SECONDS = 120


def run(name: str, code: str) -> tuple[bool, str]:
    from jupyter_client.manager import start_new_kernel  # noqa: PLC0415 - not the builder's Python

    manager, client = start_new_kernel(startup_timeout=START_SECONDS, kernel_name=name)
    try:
        return cell(client, code)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def cell(client: Any, code: str) -> tuple[bool, str]:
    """(whether it went well, what it printed)"""
    asked = client.execute(code, store_history=False)
    said, well = "", True
    end = time.monotonic() + CELL_SECONDS
    while time.monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != asked:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            said += content["text"]
        elif kind in ("execute_result", "display_data"):
            said += content["data"].get("text/plain", "")
        elif kind == "error":
            well = False
            said += f"{content.get('ename', '')}: {content.get('evalue', '')}"
        elif kind == "status" and content["execution_state"] == "idle":
            return well, said.strip()
    return False, f"the cell did not end within {CELL_SECONDS} s"


def main(argv: list[str]) -> int:
    began = time.monotonic()
    try:
        well, said = run(argv[0], argv[1])
    except (RuntimeError, OSError, KeyError) as error:  # NoSuchKernel is a KeyError
        well, said = False, f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - began, 2)
    print(json.dumps({"ok": well, "seconds": seconds, "output": said[:2000]}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
