"""Host lists, lengths of time, and the tree that cluster.toml becomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.hostlist import LIMIT, expand, fold
from cluster.model import Cluster, NodeRole
from cluster.slurm_text import duration
from cluster.values import seconds, slurm_time

PREFIX = st.from_regex(r"[a-z][a-z-]{0,6}", fullmatch=True)
NUMBERED = st.builds(
    lambda prefix, number, width: f"{prefix}{number:0{width}d}",
    PREFIX,
    st.integers(0, 120),
    st.integers(1, 4),
)


@given(st.lists(st.one_of(PREFIX, NUMBERED), max_size=40))
def test_folding_keeps_every_name_once(names: list[str]) -> None:
    folded = fold(names)
    again = expand(folded) if folded else []
    assert sorted(again) == sorted(set(names))


@given(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["", "-ib"]))
def test_expanding_counts_with_the_width_that_is_written(low: int, more: int, tail: str) -> None:
    text = f"n[{low:03d}-{low + more:03d}]{tail}"
    assert expand(text) == [f"n{number:03d}{tail}" for number in range(low, low + more + 1)]


@given(st.text(alphabet="abn019[],-", max_size=20))
def test_any_text_is_a_list_or_a_sentence(text: str) -> None:
    try:
        names = expand(text)
    except ValueError as error:
        assert "is not" in str(error) or "stands for more" in str(error)
    else:
        assert names
        assert all(names)


@pytest.mark.parametrize(
    "text, names",
    [
        ("login", ["login"]),
        ("node[01-02,07],login", ["node01", "node02", "node07", "login"]),
        ("r1-n[9-11]", ["r1-n9", "r1-n10", "r1-n11"]),
    ],
)
def test_expand(text: str, names: list[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    "text", ["", "a,,b", "n[2-1]", "n[1", "n]1", "N1", "a b", "n[]", f"n[0-{LIMIT}]", "n[1-999999]"]
)  # fmt: skip
def test_not_host_lists(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|stands for more"):
        expand(text)


def test_fold() -> None:
    assert fold(["node03", "node01", "node02", "login", "node01"]) == "login,node[01-03]"
    assert fold(["n1", "n3", "n09", "n10"]) == "n[1,3],n[09-10]"
    assert fold(["n7"]) == "n7"


@pytest.mark.parametrize(
    "text, length, for_slurm",
    [
        ("04:00", 14400, "0-04:00:00"),  # not four minutes, as Slurm would read it
        ("04:00:00", 14400, "0-04:00:00"),
        ("1-00:00", 86400, "1-00:00:00"),
        ("36:00:01", 129601, "1-12:00:01"),
    ],
)
def test_lengths_of_time(text: str, length: int, for_slurm: str) -> None:
    assert seconds(text) == length
    assert slurm_time(text) == for_slurm


@given(st.integers(0, 400), st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_slurm_reads_what_we_meant(days: int, hours: int, minutes: int, secs: int) -> None:
    text = f"{days}-{hours:02d}:{minutes:02d}:{secs:02d}"
    assert duration(slurm_time(text)) == seconds(text) == seconds(slurm_time(text))


@pytest.mark.parametrize("text", ["", "4", "1 day", "1-2", "04:0", "-04:00:00", "04:00:00:00"])
def test_not_lengths_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time like"):
        seconds(text)


def small() -> Cluster:
    return Cluster.model_validate(
        {
            "cluster": {"name": "c"},
            "network": {"subnet": "10.0.0.0/24"},
            "nodes": [
                {"name": "login", "address": "10.0.0.2", "roles": ["login", "controller"]},
                {"name": "n[09-11]", "address": "10.0.0.254", "roles": ["compute"], "cpus": 2},
            ],
            "groups": [{"name": "pupils", "gid": 2000, "role": "student"}],
            "partitions": [{"name": "all-of-it", "nodes": "ALL"}, {"name": "one", "nodes": "n10"}],
        }
    )


def test_machines_count_names_and_addresses_up() -> None:
    cluster = small()
    assert [(node.name, node.address) for node in cluster.machines] == [
        ("login", "10.0.0.2"), ("n09", "10.0.0.254"), ("n10", "10.0.0.255"), ("n11", "10.0.1.0"),
    ]  # fmt: skip
    assert cluster.node("n10").cpus == 2
    assert cluster.first(NodeRole.CONTROLLER).name == "login"
    assert [cluster.partition_nodes(part) for part in cluster.partitions] == [
        ("n09", "n10", "n11"), ("n10",),
    ]  # fmt: skip
    assert cluster.groups_with("student") == ("pupils",)
    with pytest.raises(KeyError):
        cluster.node("n12")


def test_the_tree_is_frozen_and_knows_no_other_keys() -> None:
    cluster = small()
    with pytest.raises(ValidationError):
        cluster.cluster.name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Cluster.model_validate({**cluster.model_dump(), "extra": 1})
