"""The roles of courses. Nothing on a cluster without one."""

from __future__ import annotations

from coursework import grading_role, nodes
from provisioning.role import Role

ROLES = (
    Role("course-accounts", "identity", lambda cluster, _node: bool(cluster.courses),
         nodes.accounts),
    Role("course-folders", "trust", nodes.is_homes_node, nodes.folders),
    Role("course-sessions", "software", nodes.sessions_here, nodes.session),
    Role("course-environment", "software", nodes.login_here, nodes.graders_environment),
    *grading_role.ROLES,
    Role("courses", "hub", nodes.login_here, nodes.login),
)  # fmt: skip
