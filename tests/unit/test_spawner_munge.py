"""munge by its library, against a daemon of our own and munge's own commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spawner_hub import start_munged

from spawners import munge as library
from spawners.munge import Munge, MungeError

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not (shutil.which("munged") or Path("/usr/sbin/munged").exists()),
    reason="needs root and munge (apt-get install munge)",
)


@pytest.fixture(scope="module")
def socket() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="practicum-munge-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemon = start_munged(folder)
        try:
            yield str(folder / "socket")
        finally:
            daemon.terminate()
            daemon.wait(timeout=20)


@given(payload=st.text(st.characters(codec="utf-8"), max_size=300), ttl=st.integers(1, 3600))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_closed_is_opened_once(socket: str, payload: str, ttl: int) -> None:
    me = os.getuid()
    made = library.encode(payload.encode(), reader=me, ttl=ttl, socket=socket)
    assert library.CREDENTIAL.fullmatch(made)
    opened = library.decode(made.encode(), socket=socket)
    assert (opened.uid, opened.gid, opened.restricted_to) == (me, os.getgid(), me)
    assert opened.payload == payload and opened.made > 1_700_000_000
    assert payload not in repr(opened) or len(payload) < 12
    with pytest.raises(MungeError, match="used before") as refused:
        library.decode(made.encode(), socket=socket)
    assert refused.value.status == 17


async def test_munges_own_commands_agree(socket: str) -> None:
    munge = Munge(socket=socket)
    made = await munge.close("a\0b: UID: 5\n\nend", reader=0, ttl=60)
    argv = ["unmunge", "--socket", socket, "--numeric"]
    told = subprocess.run(argv, input=made.encode(), capture_output=True, check=True)  # noqa: ASYNC221
    said = told.stdout.decode().split("\n\n", 1)
    assert re.search(r"^UID_RESTRICTION: +0$", said[0], re.MULTILINE), said
    assert re.search(r"^TTL: +60$", said[0], re.MULTILINE), said
    assert said[1] == "a\0b: UID: 5\n\nend"
    argv = ["munge", "--socket", socket, "--string", "hello"]
    theirs = subprocess.run(argv, capture_output=True, text=True, check=True)  # noqa: ASYNC221
    opened = await munge.open(theirs.stdout)
    assert (opened.payload, opened.restricted_to) == ("hello", None)
    assert re.search(rf"^ENCODE_HOST: +{re.escape(opened.host)}$", said[0], re.MULTILINE), said


async def test_what_is_for_others_is_not_told(socket: str) -> None:
    munge = Munge(socket=socket)
    with pytest.raises(MungeError, match="for another user"):
        await munge.open(await munge.close("secret", reader=65534))
    for text in ("", "MUNGE:AAAA:", "MUNGE:" + "A" * 4000 + ":", "x" * 50):
        with pytest.raises(MungeError) as refused:
            await munge.open(text)
        assert refused.value.status >= 8, text


async def test_without_munge_nothing_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    munge = Munge(socket=str(tmp_path / "none"))
    with pytest.raises(MungeError, match="does not answer"):
        await munge.open("MUNGE:AAAA:")
    with pytest.raises(MungeError, match="munge failed"):
        await munge.close("{}", reader=0)
    monkeypatch.setattr(library, "LIBRARY", "libnone.so")
    library.library.cache_clear()
    with pytest.raises(MungeError, match="cannot be loaded"):
        await munge.close("{}", reader=0)
    library.library.cache_clear()
