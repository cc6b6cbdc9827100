"""What is closed so that no job starts, and what is opened again: also after a run was killed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_roles import small

from cluster.errors import PracticumError
from cluster.sinfo import PartitionState, read_partitions
from provisioning import closing
from provisioning.closing import OFF, RECORD, Closing, Draining, no_new_starts
from provisioning.controller import Controller
from provisioning.report import Silent

UP, DOWN, DRAIN = PartitionState.UP, PartitionState.DOWN, PartitionState.DRAIN


class Slurm(Controller):
    """The controller, with tables instead of a machine: sinfo and scontrol answer from them."""

    def __init__(self, base: Path, **tables: dict[str, str]) -> None:
        super().__init__(small(), base)
        self.parts = tables.get("parts", {})
        self.nodes = tables.get("nodes", {})  # name: state and reason
        self.broken = False

    def _run(self, argv: Sequence[str]) -> str:
        if self.broken:
            raise PracticumError("scontrol failed on login: no answer")
        words = dict(word.split("=", 1) for word in argv if re.match(r"[A-Z]\w+=", word))
        if name := words.get("PartitionName"):
            self.parts[name] = words["State"].lower()
        elif "NodeName" in words:
            for one in hosts(words["NodeName"]):
                self._turn(one, words["State"], words.get("Reason", "none"))
        else:
            return self._sinfo(next(one for one in argv if one.startswith("--format=")))
        return ""

    def _turn(self, name: str, state: str, reason: str) -> None:
        before = self.nodes[name]
        after = {"DRAIN": f"drained {reason}", "RESUME": "idle none", "DOWN": f"down {reason}",
                 "UNDRAIN": before.replace("drained", "idle")}  # fmt: skip
        self.nodes[name] = after[state]

    def _sinfo(self, layout: str) -> str:
        if parts := re.match(r"--format=%R(.+)%a\1$", layout):
            separator = parts[1]
            rows = [list(one) for one in self.parts.items()]
        else:
            separator = layout.removeprefix("--format=%N").partition("%R")[0]
            told = [(name, *text.split(" ", 1)) for name, text in self.nodes.items()]
            rows = [
                [name, "batch", state, "4", "0/4/0/4", "4000", "100", "0.1", reason]
                for name, state, reason in told
            ]
        return "".join("".join(f"{cell}{separator}" for cell in row) + "\n" for row in rows)


def hosts(text: str) -> list[str]:
    """node[01-02,04] as names."""
    head, _, inside = text.partition("[")
    found = []
    for part in inside.rstrip("]").split(",") if inside else [""]:
        first, _, last = part.partition("-")
        if not first:
            return text.split(",")
        found += [f"{head}{one:02}" for one in range(int(first), int(last or first) + 1)]
    return found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "LAUNCH_SECONDS", 0)
    monkeypatch.setattr(closing, "OPEN_SECONDS", 0)


def record(base: Path) -> dict[str, str]:
    return dict(json.loads((base / RECORD).read_text()))


def test_what_the_admin_closed_stays_closed(tmp_path: Path) -> None:
    before = {"batch": "down", "notebook": "up", "old": "inactive", "last": "drain"}
    slurm = Slurm(tmp_path, parts=dict(before))
    with no_new_starts(slurm, tmp_path, Silent()):
        assert slurm.parts == {**before, "notebook": "down", "last": "down"}
        assert record(tmp_path) == {"notebook": "up", "last": "drain"}
    assert slurm.parts == before
    assert not (tmp_path / RECORD).exists()


def test_what_a_killed_run_closed_is_opened_by_the_next(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path, parts={"batch": "up", "notebook": "up", "mine": "down"})
    Closing(slurm, tmp_path, Silent()).close()  # and killed
    assert set(slurm.parts.values()) == {"down"}
    with no_new_starts(Slurm(tmp_path, parts=slurm.parts), tmp_path, Silent()):
        assert set(slurm.parts.values()) == {"down"}
    assert slurm.parts == {"batch": "up", "notebook": "up", "mine": "down"}
    assert not (tmp_path / RECORD).exists()


def test_what_is_cut_off_may_leave_the_partitions_closed(tmp_path: Path) -> None:
    """A new key on some nodes only: no job starts until a later run has gone through."""
    slurm = Slurm(tmp_path, parts={"batch": "up", "mine": "down", "drain": "drain"})
    with (
        pytest.raises(KeyboardInterrupt),
        no_new_starts(slurm, tmp_path, Silent()) as hold,
        hold.left_closed("until then"),
    ):
        raise KeyboardInterrupt
    assert set(slurm.parts.values()) == {"down"}
    Closing(slurm, tmp_path, Silent()).open_left()
    assert slurm.parts == {"batch": "up", "mine": "down", "drain": "drain"}
    assert not (tmp_path / RECORD).exists()
    slurm.broken = True
    Closing(slurm, tmp_path, Silent()).open_left()  # nothing left, nobody asked


def test_a_command_that_has_them_closed_is_left_alone(tmp_path: Path) -> None:
    """By an apply that goes through meanwhile, and by another command that wants them closed."""
    slurm = Slurm(tmp_path, parts={"batch": "up"})
    hold = Closing(slurm, tmp_path, Silent())
    hold.close()
    Closing(slurm, tmp_path, Silent()).open_left()
    with pytest.raises(PracticumError, match="another practicum command has closed"):
        Closing(slurm, tmp_path, Silent()).close()
    assert slurm.parts == {"batch": "down"}
    hold.open()
    assert slurm.parts == {"batch": "up"}
    with no_new_starts(slurm, tmp_path, Silent()):
        assert slurm.parts == {"batch": "down"}


def test_what_changed_since_a_run_was_killed_counts() -> None:
    """Opened by hand since, taken out of cluster.toml, or never ours."""
    was = {"a": UP, "b": UP, "gone": UP}
    assert closing.to_reopen({"a": DRAIN, "b": DOWN, "c": DOWN}, was) == {"a": DRAIN, "b": UP}


def test_a_controller_that_does_not_answer_keeps_the_record(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path, parts={"batch": "up"})
    hold = Closing(slurm, tmp_path, Silent())
    hold.close()
    slurm.broken = True
    with pytest.raises(PracticumError, match=r"still closed: run scontrol .* on login for batch"):
        hold.open()
    again = no_new_starts(slurm, tmp_path, Silent())
    with pytest.raises(PracticumError, match="no answer"), again:
        pass
    assert record(tmp_path) == {"batch": "up"}


def test_a_controller_that_goes_off_opens_by_itself(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path, parts={"batch": "up"})
    hold = Closing(slurm, tmp_path, Silent())
    hold.close()
    hold.off(["node01"])
    assert (tmp_path / RECORD).exists()
    hold.off(["login"])
    assert not (tmp_path / RECORD).exists()
    hold.open()  # it did not go off after all
    assert slurm.parts == {"batch": "up"}


def test_nodes_that_go_off_are_down_and_the_others_take_jobs_again(tmp_path: Path) -> None:
    nodes = {
        "node01": "idle none",
        "node02": "mixed none",
        "node03": "drained fan",
        "node04": f"drained {OFF}",  # by a run that was killed
        "node05": "down* Not responding",
    }
    slurm = Slurm(tmp_path, nodes=dict(nodes))
    hold = Draining(slurm, [*nodes, "unknown"])
    hold.close()
    changed = {"node01": f"drained {OFF}", "node02": f"drained {OFF}"}
    assert slurm.nodes == {**nodes, **changed}
    hold.off(["node01", "node03", "node05"])
    assert slurm.nodes == {**nodes, **changed, "node01": f"down {OFF}"}
    hold.open()
    assert slurm.nodes["node02"] == slurm.nodes["node04"] == "idle none"
    assert slurm.nodes["node03"] == "drained fan"
    again = Draining(slurm, ["node02"])
    again.close()
    slurm.broken = True
    with pytest.raises(PracticumError, match="still drained: practicum node resume node02"):
        again.open()


def test_partitions_as_sinfo_tells_them() -> None:
    text = "batch|up|\nhidden|inact|\n"
    assert [row.state for row in read_partitions(text, "|")] == [UP, PartitionState.INACTIVE]
    assert read_partitions("", "|") == ()
    for wrong in ("batch|up|", "batch|open|\n"):
        with pytest.raises(ValueError):
            read_partitions(wrong, "|")
