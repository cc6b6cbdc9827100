"""The hub's configuration, applied to JupyterHub's own classes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import jinja2
import pamela
import pytest
from hub_sample import SECRETS, sample
from jupyterhub import orm, scopes
from jupyterhub.app import JupyterHub
from jupyterhub.proxy import ConfigurableHTTPProxy
from jupyterhub.roles import get_default_roles
from tornado import web
from traitlets.config import Config

from cluster.courses import Course
from cluster.errors import ConfigError
from hub import auth, config, paths
from hub.app import PracticumHub
from hub.auth import ClusterAuthenticator, admission

ROLES = ("login", "controller", "database", "storage")


@pytest.fixture
def applied() -> Config:
    found = Config()
    config.apply(found, sample(), SECRETS)
    return found


def test_every_setting_is_a_trait_of_its_class(applied: Config) -> None:
    """A misspelt setting is silently ignored by traitlets; here it is an error."""
    classes: dict[str, Any] = {
        "JupyterHub": JupyterHub,
        "PracticumHub": PracticumHub,
        "ConfigurableHTTPProxy": ConfigurableHTTPProxy,
        "ClusterAuthenticator": ClusterAuthenticator,
    }
    for name, cls in classes.items():
        known = set(cls.class_traits(config=True))
        assert set(applied[name]) <= known, name


def test_the_hub_takes_the_values(applied: Config) -> None:
    hub = JupyterHub(config=applied)
    assert hub.hub_connect_url == "https://10.80.0.10:8081"
    assert hub.internal_ssl
    assert hub.cookie_secret == bytes.fromhex(SECRETS["hub_cookie_secret"])
    assert not hub.cleanup_servers
    assert not ConfigurableHTTPProxy(config=applied).should_start
    assert hub.authenticator_class is ClusterAuthenticator


def test_one_machine_alone_speaks_no_tls_unless_asked_to() -> None:
    alone = [{"name": "pc", "address": "10.80.0.10", "roles": [*ROLES, "compute"]}]
    for wanted, scheme in ((None, "http"), (True, "https")):
        found = Config()
        cluster = sample(nodes=alone, hub={"internal_tls": wanted})
        config.apply(found, cluster, SECRETS, "/tls")
        assert found.JupyterHub.hub_connect_url == f"{scheme}://10.80.0.10:8081"
        launcher = found.PracticumSpawner.session_api_url
        assert launcher == f"http://10.80.0.10:{8000 if wanted else 8081}/hub/api"


def test_nobody_has_more_than_the_usual_rights(applied: Config) -> None:
    usual = {role["name"]: set(role["scopes"]) for role in get_default_roles()}
    roles = {role["name"]: role for role in applied.JupyterHub.load_roles}
    instructor = roles.pop("instructor")
    for name, role in roles.items():
        assert set(role["scopes"]) <= usual[name]
        assert not {"users", "groups", "services"} & set(role)
    assert applied.ClusterAuthenticator.admin_users == set()
    # instructors start and stop students' sessions, and nothing lets them in
    assert instructor["groups"] == ["instructors"]
    assert all(
        scope == "admin-ui" or scope.endswith(f"!group={auth.NO_COURSE}")
        for scope in instructor["scopes"]
    )
    assert not [scope for scope in instructor["scopes"] if "access" in scope or "admin:" in scope]


PEOPLE = {  # and the system's groups that they are in
    "ada": ["students", "course-hpc"], "ben": ["students", "course-phys"], "cleo": ["students"],
    "dora": ["students", "course-old"], "eve": ["hpc", "course-hpc", "course-phys"],
    "ines": ["instructors", "course-hpc", "teach-hpc", "course-old", "teach-old"],
    "ivo": ["instructors", "course-phys", "teach-phys"],
    "ivy": ["instructors", "course-phys", "teach-phys", "course-hpc"],
    "otto": ["instructors"],
}  # fmt: skip
OVER = {
    "ines": {"ada", "eve", "cleo", "dora", "ivy"},  # ivy learns there
    "ivo": {"ben", "eve", "cleo", "dora"},
    "otto": {"cleo", "dora"},
    "ada": set(),
}


@pytest.fixture
def hub_of_two_courses() -> Config:
    courses = [
        {"name": "hpc", "uid": 50000, "instructors": ["ines"]},
        {"name": "phys", "uid": 50100, "instructors": ["ivo", "ivy"]},
        {"name": "old", "uid": 50200, "instructors": ["ines"], "state": "archived"},
    ]
    groups = [
        {"name": "students", "gid": 2000, "role": "student"},
        {"name": "hpc", "gid": 2003, "role": "student"},
        {"name": "instructors", "gid": 2001, "role": "instructor"},
        {"name": "admins", "gid": 2002, "role": "admin"},
    ]
    found = Config()
    config.apply(found, sample(courses=courses, groups=groups), SECRETS)
    return found


@pytest.mark.parametrize("who", OVER)
def test_an_instructor_of_one_course_is_nobody_in_another(
    hub_of_two_courses: Config, who: str
) -> None:
    """JupyterHub's own judgement, with its database, roles and groups."""
    own = ClusterAuthenticator(config=hub_of_two_courses)
    db = orm.new_session_factory("sqlite:///:memory:")()
    groups: dict[str, orm.Group] = {}
    users: dict[str, orm.User] = {}
    for name, unix in PEOPLE.items():
        users[name] = orm.User(name=name)
        db.add(users[name])
        decided = admission(name, unix, welcome=own.welcome_groups, kept_out=own.kept_out_groups)
        assert not decided.refusal
        for group in own.groups_on_hub(decided):
            groups.setdefault(group, orm.Group(name=group)).users.append(users[name])
    db.add_all(groups.values())
    for role in hub_of_two_courses.JupyterHub.load_roles:
        if "groups" in role:
            made = orm.Role(name=role["name"], scopes=role["scopes"])
            made.groups = [groups[group] for group in role["groups"] if group in groups]
            db.add(made)
    db.commit()
    parsed = scopes.parse_scopes(scopes.get_scopes_for(users[who]))
    for scope in ("servers", "list:users", "read:users:activity"):
        over = {
            name
            for name, one in users.items()
            if scope in parsed and scopes.check_scope_filter(parsed[scope], one, "user")
        }
        assert over - {who} == OVER[who], scope


def test_without_students_nobody_instructs() -> None:
    groups = [{"name": "instructors", "gid": 2001, "role": "instructor"}]
    users = [{"name": "ines", "uid": 2100, "groups": ["instructors"]}]
    found = Config()
    config.apply(found, sample(groups=groups, users=users), SECRETS)
    assert "instructor" not in {role["name"] for role in found.JupyterHub.load_roles}


def test_one_person_has_as_many_servers_as_cluster_toml_says(applied: Config) -> None:
    assert applied.JupyterHub.named_server_limit_per_user == 2
    found = Config()
    config.apply(found, sample(hub={"servers_per_person": 1}), SECRETS)
    assert not found.JupyterHub.allow_named_servers


def test_credentials_are_read_or_missed_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"start it as practicum-hub\.service"):
        config.read_credentials("")
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(f"{value}\n")
    assert config.read_credentials(str(tmp_path)) == SECRETS
    (tmp_path / "proxy_token").unlink()
    with pytest.raises(ConfigError, match="proxy_token"):
        config.read_credentials(str(tmp_path))


WELCOME = {"welcome": ["students", "instructors"], "kept_out": ["admins"]}


@pytest.mark.parametrize(
    ("groups", "refusal"),
    [
        (["students"], ""),
        (["instructors", "audio"], ""),
        ([], "ask your instructor"),
        (["shadow"], "ask your instructor"),
        (["admins"], "by SSH"),
        (["admins", "students"], "by SSH"),
    ],
)
def test_admission_by_groups(groups: list[str], refusal: str) -> None:
    decided = admission("ada", groups, **WELCOME)
    assert decided.refusal == "" if not refusal else refusal in decided.refusal
    assert set(decided.groups) == set(groups)


async def test_a_right_password_without_a_place_gets_the_reason(
    monkeypatch: pytest.MonkeyPatch, applied: Config
) -> None:
    """root exists on every system and is in no group of the cluster. Only the password check
    is replaced: no test can know root's."""
    monkeypatch.setattr(auth.PAMAuthenticator, "authenticate", _accept)
    own = ClusterAuthenticator(config=applied)
    with pytest.raises(web.HTTPError, match="ask your instructor") as caught:
        await own.authenticate(None, {"username": "root", "password": "right"})
    assert caught.value.status_code == 403
    with pytest.raises(web.HTTPError, match="no account"):
        await own.authenticate(None, {"username": "nobody-by-this-name", "password": "right"})


@pytest.mark.parametrize("closed", [False, True])
async def test_a_closed_account_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, applied: Config, closed: bool
) -> None:
    """It keeps its groups, and its cookie: PAM is asked again."""
    asked: list[tuple[str, str]] = []

    def check(name: str, *, service: str, encoding: str) -> None:
        asked.append((name, service))
        if closed:
            raise pamela.PAMError("User account has expired", 13)

    monkeypatch.setattr(pamela, "check_account", check)
    own = ClusterAuthenticator(config=applied)
    monkeypatch.setattr(own, "admission", lambda name: auth.Admission(groups=("students",)))
    found = await own.refresh_user(SimpleNamespace(name="ada"))
    assert bool(found) is not closed
    assert asked == [("ada", paths.PAM_SERVICE)]
    assert applied.ClusterAuthenticator.auth_refresh_strict is True


async def test_a_wrong_password_is_just_wrong(applied: Config) -> None:
    own = ClusterAuthenticator(config=applied)
    wrong = {"username": "root", "password": "certainly not this one"}
    assert await own.authenticate(None, wrong) is None


TEMPLATES = sorted(path.name for path in paths.TEMPLATES.glob("*.html"))


class Person:
    """Someone who is logged in, as far as the pages look."""

    name = "ada"
    groups: ClassVar[list[Any]] = [{"name": "teach-hpc"}, {"name": "course-other"}]
    spawner: ClassVar[dict[str, Any]] = {}

    def all_spawners(self, *, include_default: bool) -> list[Any]:
        return [] if include_default else [{"name": "spare", "active": False}]

    spawners: ClassVar[dict[str, Any]] = {"spare": {"last_end": "Your last session ended: <so>."}}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_extend_the_stock_ones(name: str) -> None:
    """Loaded as JupyterHub does: ours first, the stock ones also as templates/NAME."""
    stock = [str(Path(folder) / "templates") for folder in JupyterHub().data_files_path.split(":")]
    loader = jinja2.ChoiceLoader(
        [
            jinja2.PrefixLoader({"templates": jinja2.FileSystemLoader(stock)}),
            jinja2.FileSystemLoader([str(paths.TEMPLATES), *stock]),
        ]
    )
    environment = jinja2.Environment(loader=loader, autoescape=True)
    values: dict[str, Any] = {
        "cluster_name": "<lab>",
        "static_url": lambda path, **_options: f"/static/{path}",
        "user": None,
        "default_server": {"active": False},
        "spawner": {"name": "spare"},
        "progress_url": "/hub/api/users/ada/servers/spare/progress",
        "status_code": 403,
        "base_url": "/hub/",
        "authenticator": ClusterAuthenticator(),
        "message": "ada is in the group admins.",
        "status_message": "ada is in the group admins.",
        "parsed_scopes": {},
        "taught": {
            f"teach-{one.name}": config._links(one)
            for one in (
                Course(name="hpc", uid=50000, instructors=("ada",), title="<HPC>"),
                Course(name="other", uid=50100, instructors=("ines",)),
            )
        },
        "failed": True,
        "failed_message": "Slurm refused the job: no <place>.",
    }
    if name == "not_running.html":
        values |= {"user": Person(), "server_name": "spare"}
    if name in ("home.html", "spawn_pending.html"):
        values["user"] = Person()
    page = environment.get_template(name).render(values)
    assert "<title>&lt;lab&gt;</title>" in page
    assert "practicum-footer" in page
    assert "<lab>" not in page
    if name == "home.html":
        assert '<a href="/services/formgrader-hpc/class">' in page and "&lt;HPC&gt;" in page
        assert "formgrader-other" not in page
    if name == "spawn_pending.html":
        assert 'const server = "spare"' in page  # its Cancel ends that one, not the default
    if name == "not_running.html":
        ended = environment.get_template(name).render(values | {"failed": False})
        assert "Your last session ended: &lt;so&gt;." in ended
    if name == "error.html":
        assert 'href="/hub/login"' in page
        assert page.count("ada is in the group admins.") == 1
    if name == "not_running.html":
        assert "Slurm refused the job: no &lt;place&gt;." in page


async def _accept(_self: Any, _handler: Any, data: dict[str, str]) -> str:
    return data["username"]
