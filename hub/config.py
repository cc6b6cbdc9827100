"""JupyterHub's configuration, made from the public copy of cluster.toml.

/etc/practicum/jupyterhub_config.py on the login node only calls :func:`configure`. Secrets come
as systemd credentials, so neither the environment nor a file of the hub's user holds them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.courses import Course
from cluster.errors import ConfigError
from cluster.load import load_public
from cluster.model import Cluster
from cluster.secrets import derived
from hub import pages, paths
from hub.auth import NO_COURSE, students_of
from lmod.shells import session_environment
from spawners.setup import configure as configure_sessions

ACTIVITY_SECONDS = 60  # how soon routes come back after a restart of the proxy


def configure(config: Any) -> None:
    """Fills JupyterHub's config object (``c``). Raises ConfigError in one sentence."""
    cluster = load_public(Path(paths.CLUSTER))
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    apply(config, cluster, read_credentials(folder), folder)


def read_credentials(folder: str) -> dict[str, str]:
    """The hub's secrets from systemd's credentials folder, by name."""
    if not folder:
        raise ConfigError("the hub has no credentials: start it as practicum-hub.service")
    found = {}
    for name in (paths.COOKIE_SECRET, paths.CRYPT_KEY, paths.PROXY_TOKEN):
        try:
            found[name] = (Path(folder) / name).read_text().strip()
        except OSError as error:
            raise ConfigError(f"the secret {name} cannot be read: {error}") from error
    return found


def apply(config: Any, cluster: Cluster, secrets: Mapping[str, str], tls: str = "") -> None:
    """All settings. A pure function of its arguments, but for the config object it fills.
    ``tls`` is the folder with the hub's certificates."""
    _hub(config, cluster)
    _proxy(config, cluster, secrets[paths.PROXY_TOKEN])
    _people(config, cluster)
    _pages(config, cluster)
    _courses(config, cluster, secrets[paths.COOKIE_SECRET])
    config.JupyterHub.cookie_secret = bytes.fromhex(secrets[paths.COOKIE_SECRET])
    config.CryptKeeper.keys = [bytes.fromhex(secrets[paths.CRYPT_KEY])]
    _sessions(config, cluster)
    if cluster.internal_tls:
        config.JupyterHub.internal_ssl = True
        config.PracticumHub.tls_folder = tls
        config.PracticumSpawner.tls_folder = tls


def _hub(config: Any, cluster: Cluster) -> None:
    hub = config.JupyterHub
    scheme = "https" if cluster.internal_tls else "http"
    hub.hub_bind_url = f"{scheme}://0.0.0.0:{cluster.hub.api_port}"
    hub.hub_connect_url = paths.api_url(cluster)
    hub.db_url = f"sqlite:///{paths.STATE}/hub.sqlite"
    # A restart of the hub leaves sessions and users connected.
    hub.cleanup_servers = False
    hub.cleanup_proxy = False
    hub.last_activity_interval = ACTIVITY_SECONDS
    # Slurm's queue is the limit: a class of thirty that starts at once waits there, visibly.
    hub.concurrent_spawn_limit = 0
    hub.active_server_limit = 0
    # besides the first one, which has no name
    named = cluster.hub.servers_per_person - 1
    hub.allow_named_servers = named > 0
    hub.named_server_limit_per_user = named
    # Show the waiting page at once; a queue is seldom empty enough to hold the click.
    hub.tornado_settings = {"slow_spawn_timeout": 1, "slow_stop_timeout": 10}
    # Least privilege: nobody administers the hub by its web pages, no service has a token.
    # A session's own token may say that it is in use and let its owner in, no more: what an
    # instructor may do for students is the browser's that they are logged in with.
    hub.load_roles = [
        {
            "name": "user",
            "description": "Students and instructors: their own servers",
            "scopes": ["self"],
        },
        {
            "name": "server",
            "description": "A session: report activity, let its owner in",
            "scopes": ["users:activity!user", "access:servers!server"],
        },
        *_instructors(cluster),
    ]


def _instructors(cluster: Cluster) -> list[dict[str, Any]]:
    """Instructors see who is there, and start and stop sessions of students who are in no course,
    which run as those students. They cannot enter them. (Of a course's: _courses.)"""
    students, instructors = cluster.groups_with("student"), cluster.groups_with("instructor")
    if not students or not instructors:
        return []
    return [
        {
            "name": "instructor",
            "description": "Instructors: start and stop the sessions of students in no course",
            "scopes": _over_students(NO_COURSE),
            "groups": list(instructors),
        }
    ]


def _over_students(group: str) -> list[str]:
    """To list them, and to start and stop their sessions."""
    scopes = ("list:users", "read:users:name", "read:users:activity", "servers")
    return ["admin-ui", *(f"{scope}!group={group}" for scope in scopes)]


def _proxy(config: Any, cluster: Cluster, token: str) -> None:
    """The proxy is practicum-proxy.service: the hub finds it running."""
    config.JupyterHub.bind_url = f"http://0.0.0.0:{cluster.hub.port}"
    proxy = config.ConfigurableHTTPProxy
    proxy.should_start = False
    scheme = "https" if cluster.internal_tls else "http"
    proxy.api_url = f"{scheme}://127.0.0.1:{cluster.hub.proxy_api_port}"
    proxy.auth_token = token


def _people(config: Any, cluster: Cluster) -> None:
    config.JupyterHub.authenticator_class = "hub.auth.ClusterAuthenticator"
    own = config.ClusterAuthenticator
    own.known_groups = [
        *(group.name for group in cluster.groups),
        *(name for course in cluster.courses for name, _gid in course.groups),
    ]
    own.welcome_groups = [*cluster.groups_with("student"), *cluster.groups_with("instructor")]
    own.kept_out_groups = list(cluster.groups_with("admin"))
    own.student_groups = list(cluster.groups_with("student"))
    own.courses = {course.name: [course.group, course.teachers] for course in _open(cluster)}
    own.service = paths.PAM_SERVICE
    own.open_sessions = False
    own.check_account = True
    own.manage_groups = True
    own.refresh_pre_spawn = True
    own.auth_refresh_strict = True  # for requests by token too, and for others' sessions
    own.admin_users = set()
    # authenticate() lets in nobody but members of welcome_groups; a list of names beside it
    # would be a second truth.
    own.allow_all = True


def _pages(config: Any, cluster: Cluster) -> None:
    config.JupyterHub.extra_handlers = list(pages.HANDLERS)
    config.JupyterHub.template_paths = [str(paths.TEMPLATES)]
    config.JupyterHub.template_vars = {
        "cluster_name": cluster.cluster.name,
        "taught": {course.teachers: _links(course) for course in cluster.courses},
    }


def _links(course: Course) -> dict[str, str]:
    """What its instructors find on the hub's home page."""
    place = f"/services/{course.formgrader}"
    return {
        "name": course.name,
        "title": course.title or course.name,
        "class": f"{place}/class",
        "formgrader": f"{place}/",
    }


def _courses(config: Any, cluster: Cluster, secret: str) -> None:
    """Each course's formgrader, an external service: a unit of its own as the course's grader.
    Its own token may do nothing; the course's instructors may reach it, and nobody else. They, and
    no other course's, start and stop the sessions of its students, while it is open."""
    hub = config.JupyterHub
    hub.services = [
        {
            "name": course.formgrader,
            "url": f"http://127.0.0.1:{course.formgrader_port}",
            "api_token": derived(secret, course.formgrader),
            "oauth_no_confirm": True,
            "display": True,
        }
        for course in cluster.courses
    ]
    hub.load_roles += [
        {
            "name": course.teachers,
            "description": f"Instructors of {course.name}: its formgrader, its students' sessions",
            "scopes": [
                f"access:services!service={course.formgrader}",
                *(_over_students(students_of(course.name)) if course in _open(cluster) else ()),
            ],
            "groups": [course.teachers],
        }
        for course in cluster.courses
    ]


def _open(cluster: Cluster) -> list[Course]:
    return [course for course in cluster.courses if course.state == "open"]


def _sessions(config: Any, cluster: Cluster) -> None:
    configure_sessions(
        config, cluster, hub_url=paths.api_url(cluster), session_url=paths.session_url(cluster)
    )
    config.PracticumSpawner.cluster_file = paths.CLUSTER
    # `module` in terminals, %%bash cells and in the jobs that are submitted from them
    config.Spawner.environment = session_environment(cluster)
