"""Texts of a course's units, sudo rules and nbgrader's configuration: pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cluster.courses import Course
from coursework.layout import LIBRARY, SECRETS, Layout

PYTHON = "/opt/practicum/current/bin/python"
AS_GRADER = f"{LIBRARY}/as-grader"
EXCHANGE = "practicum_session.exchange"
STUBS = "practicum_session.stubs"


def as_grader() -> str:
    """What instructors may run as their course's grader. The environment is sudo's, and -I."""
    return f"""#!/bin/sh
# Written by practicum: a verb of practicum course, as the grader of that course.
exec {PYTHON} -I -m coursework.act "$@"
"""


def sudoers(courses: Sequence[Course]) -> str:
    """Instructors as the grader of their own course, and of no other. An instructor may do all
    that the grader may, so the command's arguments are not restricted."""
    lines = ["# Written by practicum."]
    for course in courses:
        people = ", ".join(course.instructors)
        lines += [
            f"Defaults>{course.grader} env_reset, !setenv, !requiretty, !pam_session, !lecture",
            f"{people} ALL = ({course.grader}) NOPASSWD: NOSETENV: {AS_GRADER}",
        ]
    return "\n".join(lines) + "\n"


def nbgrader_config(places: Layout) -> str:
    """Read by every nbgrader of the course, formgrader's too."""
    students = list(places.course.students)
    return f"""# Written by practicum. The course's own settings: {places.root}/nbgrader_config.py
from {STUBS} import steps

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = {places.course.name!r}
c.CourseDirectory.root = {str(places.root)!r}
c.ExchangeFactory.exchange = "{EXCHANGE}.CourseExchange"
c.ExchangeFactory.release_assignment = "{EXCHANGE}.ReleaseAssignment"
c.ExchangeFactory.fetch_assignment = "{EXCHANGE}.FetchAssignment"
c.ExchangeFactory.submit = "{EXCHANGE}.Submit"
c.ExchangeFactory.list = "{EXCHANGE}.ListAssignments"
c.ExchangeFactory.collect = "{EXCHANGE}.Collect"
c.ExchangeFactory.release_feedback = "{EXCHANGE}.ReleaseFeedback"
c.ExchangeFactory.fetch_feedback = "{EXCHANGE}.FetchFeedback"
c.CourseExchange.students = {students!r}
c.CourseExchange.roster = {places.roster!r}
c.GenerateAssignment.preprocessors = steps()
"""


def spool_socket(places: Layout) -> str:
    """A port that only root can listen on, kept while the service is started anew."""
    return f"""# Written by practicum.
[Unit]
Description=practicum: hand-out and hand-in of {places.course.name}

[Socket]
ListenStream={places.login}:{places.spool_port}
# the address may come up later
FreeBind=yes
Backlog=256

[Install]
WantedBy=sockets.target
"""


def spool_unit(places: Layout) -> str:
    """The spooler sees the exchange and its ledger; not the gradebook, sources or solutions."""
    course, root = places.course, places.root
    return f"""# Written by practicum.
[Unit]
Description=practicum: hand-out and hand-in of {course.name}
Requires={places.spool_unit}.socket
After={places.spool_unit}.socket munge.service remote-fs.target
RequiresMountsFor={root}

[Service]
User={course.grader}
Group={course.grader}
UMask=0077
Environment=LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1 HOME=/nonexistent
ExecStart={PYTHON} -I -m coursework.spooler {course.name}
Restart=on-failure
RestartSec=2
TimeoutStopSec=20
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectControlGroups=yes
ProtectKernelTunables=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
TemporaryFileSystem={root}:ro
BindPaths={places.exchange} {places.ledger}
MemoryMax=500M
TasksMax=64

[Install]
WantedBy=multi-user.target
"""


def formgrader_socket(places: Layout) -> str:
    """On the loopback, for the hub's proxy alone: what comes must be logged in at the hub."""
    return f"""# Written by practicum.
[Unit]
Description=practicum: formgrader of {places.course.name}

[Socket]
ListenStream=127.0.0.1:{places.formgrader_port}

[Install]
WantedBy=sockets.target
"""


def formgrader_unit(places: Layout, hub: str) -> str:
    """Jupyter's server with nbgrader's formgrader, as the grader, in the course's folder.
    ``hub``: http://ADDRESS:PORT of the hub's API."""
    course, root = places.course, places.root
    scopes = json.dumps([f"access:services!service={places.formgrader}"])
    variables = {
        "HOME": str(root),
        "PATH": f"{places.environment}/bin:/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "JUPYTER_CONFIG_DIR": places.config,
        "JUPYTER_PATH": f"{places.environment.parent.parent}/jupyter",
        "JUPYTER_RUNTIME_DIR": f"/run/{places.formgrader_unit}",
        "JUPYTERHUB_SERVICE_NAME": places.formgrader,
        "JUPYTERHUB_SERVICE_PREFIX": places.formgrader_prefix,
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{places.formgrader_port}",
        "JUPYTERHUB_CLIENT_ID": f"service-{places.formgrader}",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{places.formgrader_prefix}oauth_callback",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": scopes,
        "JUPYTERHUB_OAUTH_SCOPES": scopes,
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_API_URL": f"{hub}/hub/api",
    }
    lines = "\n".join(
        "Environment=" + json.dumps(f"{key}={value}") for key, value in variables.items()
    )
    return f"""# Written by practicum.
[Unit]
Description=practicum: formgrader of {course.name}
Requires={places.formgrader_unit}.socket
After={places.formgrader_unit}.socket munge.service remote-fs.target
RequiresMountsFor={root}

[Service]
User={course.grader}
Group={course.grader}
UMask=0077
WorkingDirectory={root}
RuntimeDirectory={places.formgrader_unit}
RuntimeDirectoryMode=0700
{lines}
EnvironmentFile=-/etc/practicum/slurm-environment
LoadCredential=token:{SECRETS}/{places.formgrader}
ExecStart={places.environment}/bin/python -I -m practicum_session.formgrader {course.name}
Restart=on-failure
RestartSec=2
TimeoutStopSec=20
PrivateTmp=yes
ProtectSystem=strict
ProtectControlGroups=yes
ProtectKernelTunables=yes
PrivateDevices=yes
ReadWritePaths={root}
InaccessiblePaths=-{places.exchange}/incoming

[Install]
WantedBy=multi-user.target
"""
