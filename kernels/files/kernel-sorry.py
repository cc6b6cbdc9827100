"""A kernel that computes nothing: it tells, in every cell, why the wanted one did not start.
Run by the server environment's Python, which has ipykernel."""

from __future__ import annotations

import os
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

TROUBLE = os.environ.get("PRACTICUM_TROUBLE", "The kernel could not be started.")
ADVICE = (
    "Nothing can run in this notebook until that is mended. Tell your instructor, or choose "
    "another kernel (Kernel, Change Kernel); then restart it."
)


class Sorry(Kernel):  # type: ignore[misc]
    """Says what is wrong."""

    implementation = "practicum"
    implementation_version = "1"
    language_info = {"name": "text", "mimetype": "text/plain", "file_extension": ".txt"}  # noqa: RUF012
    banner = TROUBLE

    async def do_execute(self, code: str, silent: bool, *args: Any, **more: Any) -> Any:  # noqa: ARG002 - called by these names
        name, value = "KernelNotStarted", f"{TROUBLE}\n\n{ADVICE}"
        content = {"ename": name, "evalue": value, "traceback": value.split("\n")}
        if not silent:
            self.send_response(self.iopub_socket, "error", content)
        return {"status": "error", "execution_count": self.execution_count, **content}


if __name__ == "__main__":
    IPKernelApp.launch_instance(kernel_class=Sorry)
