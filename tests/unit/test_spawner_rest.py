"""Starts by REST in a real hub: bad bodies, remembered choices, and someone who starts another's."""

from __future__ import annotations

from functools import partial
from typing import Any

from jupyterhub import orm, roles
from spawner_hub import (
    NEEDS,
    USER,
    Setting,
    hub,  # noqa: F401
    job,
    message_of,
    munge_socket,  # noqa: F401
    record,
)
from test_spawner_ends import failed
from tornado.httpclient import AsyncHTTPClient

from cluster.slurm_text import JobState

pytestmark = NEEDS
BAD: list[Any] = [
    *({"profile": value} for value in ("small\n", "$(id)", ["small"], "staff")),
    *({"cpus": value} for value in (0, 3, True, "1\n#SBATCH --uid=0")),
    *({"memory": value} for value in (301, 1e9, "--uid=0")),
    *({"time": value} for value in ("04:00:01", 60, "`id`")),
    {"kernel": "../x"},
    {"kernel": 5},
    {"modules": "a/1"},
    {"modules": ["$(id)"]},
    {"partition": "batch"},
    {"_xsrf": "x"},
]  # the rest of what might be sent: hypothesis, in test_spawner_choices.py


async def refused(hub: Setting, body: Any) -> str:  # noqa: F811
    """What the person is told of a start that must not be."""
    answer = await hub.spawn(body)
    spawner = hub.user().spawners[""]
    # 201 after one that failed, says JupyterHub
    return await failed(spawner) if answer.code in (201, 202) else message_of(answer)


async def given_up(hub: Setting, spawner: Any) -> None:  # noqa: F811
    """Its job fails and is gone at once."""
    hub.queue.jobs, hub.queue.records = [], [record(17, JobState.CANCELLED)]
    spawner.report_failure("enough")
    await failed(spawner)
    hub.queue.jobs, hub.queue.records = [job(17, JobState.PENDING)], []


async def test_no_bad_option_reaches_a_script(hub: Setting) -> None:  # noqa: F811
    for body in BAD:
        said = await refused(hub, {"user_options": body})
        assert "cannot be had" in said or "There is no" in said or "can be loaded" in said, body
        assert said.isprintable() and len(said) < 400, body
        assert not (hub.folder / "script").exists(), body
        assert not hub.user().spawners[""].orm_spawner.user_options, body


async def test_a_body_that_is_no_json_object_is_refused(hub: Setting) -> None:  # noqa: F811
    token = hub.user().new_api_token(scopes=["self"])
    for body in ("[1]", '"small"', "17", "profile=small", "{", b"\xff\xfe", '{"user_options": 5}'):
        answer = await hub.post(f"/users/{USER}/server", body, token)
        assert 400 <= answer.code < 500, (body, answer.body)
        assert not (hub.folder / "script").exists(), body


async def test_a_body_beside_the_form_counts_for_nothing(hub: Setting) -> None:  # noqa: F811
    """Options in the address of a REST call, and JSON sent to the form's address."""
    token = hub.user().new_api_token(scopes=["self"])
    hub.queue.jobs = [job(17, JobState.PENDING)]
    answer = await hub.post(
        f"/users/{USER}/server?profile=large&cpus=4", {"profile": "small"}, token
    )
    assert answer.code == 202
    spawner = hub.user().spawners[""]
    await hub.until(lambda: spawner.job_id)
    script = (hub.folder / "script").read_text()
    assert "#SBATCH --cpus-per-task=2\n" in script and "#SBATCH --mem=300M\n" in script
    await given_up(hub, spawner)
    (hub.folder / "script").unlink()
    page = hub.api.replace("/hub/api", "/hub/spawn")
    sent = await AsyncHTTPClient().fetch(
        page, method="POST", body='{"profile": "large"}', raise_error=False, follow_redirects=False,
        headers={"Authorization": f"token {token}", "Content-Type": "application/json"},
    )  # fmt: skip
    assert sent.code >= 300
    assert not (hub.folder / "script").exists()


async def test_a_start_without_a_word_is_the_last_one_again(hub: Setting) -> None:  # noqa: F811
    """Also when a profile has gone since then, or was never one that could be had."""
    hub.queue.jobs = [job(17, JobState.PENDING)]
    for kept, memory in (
        ({"profile": "large", "memory": 500}, "500M"),
        ({"profile": "gone", "memory": 100}, "300M"),
        ({"profile": "staff"}, "300M"),
        ({"profile": "large", "cpus": "$(id)", "modules": 5, "odd": [1]}, "2000M"),
    ):
        spawner = hub.user().spawners[""]
        spawner.orm_spawner.user_options = kept
        hub.app.db.commit()
        answer = await hub.spawn()
        assert answer.code in (201, 202), answer.body  # 201 after one that failed, says JupyterHub
        spawner = hub.user().spawners[""]
        await hub.until(partial(getattr, spawner, "job_id"))
        assert f"#SBATCH --mem={memory}\n" in (hub.folder / "script").read_text(), kept
        await given_up(hub, spawner)


async def test_an_instructor_starts_a_students_session(hub: Setting) -> None:  # noqa: F811
    """One in no course, by the role that hub.config gives; it opens nobody's session, and nobody
    else's account."""
    from hub_sample import sample

    from hub.auth import NO_COURSE
    from hub.config import _instructors

    db = hub.app.db
    (declared,) = _instructors(sample())
    declared = {**declared, "groups": []}
    roles.create_role(db, declared)
    group = orm.Group(name=NO_COURSE)  # where the authenticator puts who is in no course
    db.add(group)
    group.users.append(hub.user().orm_user)
    ines = hub.user("ines")
    roles.grant_role(db, ines.orm_user, "instructor")
    hub.user("carl")  # no student
    db.commit()
    token = ines.new_api_token()

    hub.queue.jobs = [job(17, JobState.PENDING)]
    answer = await hub.post(f"/users/{USER}/server", {"profile": "small", "cpus": 1}, token)
    assert answer.code == 202, answer.body
    spawner = hub.user().spawners[""]
    await hub.until(lambda: spawner.job_id)
    assert (hub.folder / "sudo.log").read_text().startswith(f"-n -u {USER} ")  # as the student
    assert "#SBATCH --cpus-per-task=1\n" in (hub.folder / "script").read_text()
    await given_up(hub, spawner)

    for path in (
        "/users/carl/server",
        f"/users/{USER}/tokens",
        "/users/new",
        f"/groups/{NO_COURSE}/users",
    ):
        answer = await hub.post(path, {}, token)
        assert answer.code in (403, 404), (path, answer.code)


async def test_a_number_that_is_none_is_no_job(hub: Setting) -> None:  # noqa: F811
    for printed in ("", "Submitted batch job 17", "0", "-1", "17x", "one two", "9" * 12):
        (hub.folder / "sbatch").write_text(f"#!/bin/sh\ncat >/dev/null\necho '{printed}'\n")
        said = await refused(hub, {"profile": "small"})
        assert said.startswith("Slurm refused the job: "), printed
        assert not hub.user().spawners[""].job_id
