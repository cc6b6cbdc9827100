"""The agent as one compressed blob: its modules' sources and a few lines that import them from
memory. Nothing is written on the node to run it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

# Reads exactly the blob from standard input, so that the messages after it stay there.
_BOOT = """\
import json, os, zlib
size, data = {size}, b""
while len(data) < size:
    piece = os.read(0, size - len(data))
    if not piece:
        raise SystemExit(3)
    data += piece
sources, settings, loader = json.loads(zlib.decompress(data))
exec(compile(loader, "<practicum>", "exec"))
"""

_LOADER = """\
import sys
from importlib.machinery import ModuleSpec

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in sources:
            return ModuleSpec(name, self, origin="<" + name + ">", is_package=not sources[name])
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        name = module.__name__
        exec(compile(sources[name], "<" + name + ">", "exec"), module.__dict__)

sys.meta_path.insert(0, Finder())
from provisioning.agent.main import main
main(settings)
"""


@cache
def _sources() -> dict[str, str]:
    """Sources by module name; packages are empty."""
    sources = {"provisioning": "", "provisioning.agent": ""}
    for item in resources.files("provisioning.agent").iterdir():
        if item.name.endswith(".py") and item.name != "__init__.py":
            sources[f"provisioning.agent.{item.name[:-3]}"] = item.read_text(encoding="utf-8")
    return sources


@cache
def _blob(settings: str) -> bytes:
    return zlib.compress(json.dumps([_sources(), json.loads(settings), _LOADER]).encode())


def build(settings: Mapping[str, Any]) -> tuple[str, bytes]:
    """The program for ``python3 -ISc`` and the blob that it reads first."""
    blob = _blob(json.dumps(dict(settings), sort_keys=True))
    return _BOOT.format(size=len(blob)), blob
