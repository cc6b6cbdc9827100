"""[[courses]], the places of a course, and the records that client and spooler exchange."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ConfigError
from cluster.load import load
from coursework import layout
from coursework.session import records

BASE = """\
[cluster]
name = "class"
[network]
subnet = "10.1.0.0/24"
gateway = "10.1.0.1"
[[nodes]]
name = "login"
address = "10.1.0.10"
roles = ["login", "controller", "database", "storage", "compute"]
[[groups]]
name = "students"
gid = 2000
role = "student"
[[groups]]
name = "teachers"
gid = 2001
role = "instructor"
[[groups]]
name = "admins"
gid = 2002
role = "admin"
[[users]]
name = "ada"
uid = 3000
groups = ["students"]
[[users]]
name = "ines"
uid = 3001
groups = ["teachers"]
[[users]]
name = "root2"
uid = 3002
groups = ["admins"]
[[partitions]]
name = "batch"
nodes = "ALL"
default = true
"""


def course(**more: object) -> str:
    values: dict[str, object] = {
        "name": "hpc", "uid": 50100, "instructors": ["ines"], "students": ["ada"], **more,
    }  # fmt: skip
    rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    return f"[[courses]]\n{rows}"


def read(tmp_path: Path, *courses: str):
    path = tmp_path / "cluster.toml"
    path.write_text(BASE + "".join(courses))
    return load(path)


def test_a_course_and_its_places(tmp_path) -> None:
    cluster = read(tmp_path, course(slots=3))
    found = layout.find(cluster, "hpc")
    assert found.course.grader == "grader-hpc"
    assert found.course.boxes == ("gradebox-hpc-01", "gradebox-hpc-02", "gradebox-hpc-03")
    assert found.course.box_uids == (50101, 50102, 50103)
    assert (found.course.group, found.course.gid) == ("course-hpc", 50190)
    assert str(found.root) == "/nfs/courses/hpc"
    assert (found.spool_port, found.formgrader_port) == (601, 801)
    assert [one.name for one in cluster.courses_of("ada")] == ["hpc"]
    assert cluster.courses_of("ines") and not cluster.courses_of("root2")
    with pytest.raises(KeyError):
        layout.find(cluster, "other")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "a" * 20}, "a course's name"),
        ({"name": "class"}, "Slurm account class already"),
        ({"uid": 50150}, "multiple of 100"),
        ({"uid": 3000}, "at least 50000"),
        ({"instructors": []}, "at least 1"),
        ({"instructors": ["ada"], "students": []}, "instructors see everybody's work"),
        ({"students": ["ines"]}, "cannot be a student"),
        ({"students": ["ada", "ada"]}, "listed twice"),
        ({"students": ["adda"]}, "did you mean ada"),
        ({"students": ["root2"]}, "is an admin"),
        ({"kernel": "julia"}, "no kernel julia"),
        ({"profile": "big"}, "no profile big"),
        ({"partition": "bach"}, "did you mean batch"),
        ({"slots": 0}, "at least 1"),
    ],
)
def test_what_a_course_cannot_be(tmp_path, more, said) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, course(**more))


LIMITED = """
[[kernels]]
name = "python3"
title = "Python"
[[kernels]]
name = "own"
title = "A class's own"
group = "{group}"
[[partitions]]
name = "few"
nodes = "ALL"
groups = ["teachers"]
[[profiles]]
name = "staff"
title = "Staff"
partition = "few"
groups = ["teachers"]
"""


@pytest.mark.parametrize(
    ("group", "more", "said"),
    [
        ("teachers", {"kernel": "own"}, "for teachers alone: .*course-hpc"),
        ("teach-hpc", {"kernel": "own"}, "for teach-hpc alone"),
        ("course-hpc", {"partition": "few"}, "takes only teachers"),
        ("course-hpc", {"profile": "staff"}, "staff is in partition few, .*only teachers"),
    ],
)
def test_submissions_can_be_graded_where_and_with_what_is_named(
    tmp_path, group, more, said
) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, course(**more), LIMITED.format(group=group))


def test_a_course_may_have_a_kernel_of_its_own(tmp_path) -> None:
    found = read(tmp_path, course(kernel="own"), LIMITED.format(group="course-hpc"))
    assert found.courses[0].kernel == "own"


def test_two_courses_never_share(tmp_path) -> None:
    with pytest.raises(ConfigError, match="is taken by"):
        read(tmp_path, course(), course(name="other"))
    with pytest.raises(ConfigError, match="is taken by"):
        read(tmp_path, course(), course(uid=50200))
    one, other = layout.layouts(read(tmp_path, course(), course(name="other", uid=50200)))
    assert not set(one.course.box_uids) & set(other.course.box_uids)
    assert one.spool_port != other.spool_port


RECEIPT = records.Receipt(
    course="hpc", assignment="ps 1", student="ada", uid=3000,
    submitted="20260301T120000.000001Z", sha256="0" * 64, size=3,
    digests={"a.ipynb": "1" * 64}, number=1,
)  # fmt: skip


def test_a_receipt_comes_back_and_its_seal_is_over_everything_else() -> None:
    assert records.read_receipt(RECEIPT.text()) == RECEIPT
    assert replace(RECEIPT, seal="x").sealed_text() == RECEIPT.sealed_text()
    assert replace(RECEIPT, late_seconds=1).sealed_text() != RECEIPT.sealed_text()
    for wrong in (replace(RECEIPT, student="../ben"), replace(RECEIPT, assignment="../x"),
                  replace(RECEIPT, submitted="yesterday")):  # fmt: skip
        with pytest.raises(ValueError):
            records.read_receipt(wrong.text())


@given(st.one_of(st.text(), st.builds(json.dumps, st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))))  # fmt: skip
def test_whatever_comes_is_a_request_or_a_value_error(text: str) -> None:
    try:
        records.read_request(text)
    except ValueError:
        return
    raise AssertionError("nobody draws a valid request by chance")


@pytest.mark.parametrize(
    "change",
    [{"op": "grade"}, {"nonce": "x"}, {"assignment": "../a"}, {"assignment": "a+b"},
     {"sha256": "0"}, {"size": -1}, {"size": "3"}, {"size": True}, {"uid": 0}],
)  # fmt: skip
def test_a_strange_request_is_refused(change) -> None:
    good = json.loads(records.Request("submit", "hpc", "0" * 32, "ps1", "0" * 64, 3, 1).text())
    assert records.read_request(json.dumps(good)).op == "submit"
    with pytest.raises(ValueError):
        records.read_request(json.dumps({**good, **change}))


@given(st.datetimes(timezones=st.just(records.now().tzinfo)), st.integers(0, 10**9))
def test_moments_come_back_and_lateness_counts_from_the_deadline(due, extra) -> None:
    if due.year < 1000 or due.year > 9000:
        return
    assert records.moment(records.stamp(due)) == due
    after = records.stamp(due + timedelta(microseconds=extra))
    assert records.late_seconds(after, records.stamp(due)) == -(-extra // 10**6)
    assert records.late_seconds(records.stamp(due), after) == 0


def test_an_extension_replaces_the_date_of_one_student() -> None:
    dates = records.Dates({"ps1": "20260301T120000.000000Z"}, {"ps1": {"ada": "later"}})
    assert records.read_dates(dates.text()) == dates
    assert (dates.of("ps1", "ada"), dates.of("ps1", "ben")[:8]) == ("later", "20260301")
    assert dates.of("ps2", "ada") == ""
