"""[software] and [[modules]]: what people load with `module`, besides practicum's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cluster.values import AbsPath, Model, ModuleName, ModuleWord, Text

# Debian policy 5.6.7; apt's own options and paths begin otherwise.
PACKAGE = r"^[a-z0-9][a-z0-9+.-]{1,80}$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,60}$"
Package = Annotated[str, StringConstraints(pattern=PACKAGE)]
Variable = Annotated[str, StringConstraints(pattern=VARIABLE)]


class Module(Model):
    """[[modules]]: one modulefile, written in Lua from a template and checked by Lmod.

    ``under`` is its place in the hierarchy: nothing is Core, a compiler is that compiler's
    branch, a compiler and an MPI that one's. A compiler or MPI (``kind``) opens a branch itself,
    and no two of a kind are loaded at once. ``load`` is loaded along, ``prereq`` must be loaded
    before. Of ``prefix`` the usual folders are used that are there: bin, lib, include, share/man,
    lib/pkgconfig.
    """

    name: ModuleWord
    version: ModuleWord
    prefix: AbsPath = "/usr"
    kind: Literal["software", "compiler", "mpi"] = "software"
    under: Annotated[tuple[ModuleName, ...], Field(max_length=2)] = ()
    description: Text = ""
    help: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")] = ""
    family: ModuleWord | None = None
    conflict: tuple[ModuleName, ...] = ()
    prereq: tuple[ModuleName, ...] = ()
    load: tuple[ModuleName, ...] = ()
    env: dict[Variable, Text] = Field(default_factory=dict)
    paths: dict[Variable, ModuleName] = Field(default_factory=dict)  # below the prefix
    packages: tuple[Package, ...] = ()  # of the distribution, on login and compute nodes
    default: bool = False
    hidden: bool = False
    deprecated: Text = ""  # what people read when they load it

    @property
    def full(self) -> str:
        """NAME/VERSION, as it is loaded."""
        return f"{self.name}/{self.version}"


class Software(Model):
    """[software]: packages on every login and compute node, and trees of modulefiles that others
    write (EasyBuild's, Spack's), which stand beside practicum's."""

    packages: tuple[Package, ...] = ()
    module_trees: tuple[AbsPath, ...] = ()
    # Modules of those trees and of modulefiles written by hand, by NAME/VERSION
    defaults: tuple[ModuleName, ...] = ()
    hidden: tuple[ModuleName, ...] = ()
    deprecated: dict[ModuleName, Text] = Field(default_factory=dict)
