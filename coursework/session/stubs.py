"""What students find in place of a solution: nbgrader's stub, without its Python where a cell is
none. Named by nbgrader_config.py; needs nbgrader, and no more of practicum.

nbgrader 0.9.6 writes ``raise NotImplementedError()`` into every code cell. In a job script it is a
command that does not exist; worse, sbatch reads no #SBATCH line below the first command, so what a
student adds under it is left out without a word.
"""

from __future__ import annotations

from typing import Any

from nbgrader import preprocessors
from nbgrader.converters import GenerateAssignment

MAGIC = "%%"  # begins a cell that is not run as the kernel's language
STUB = "# YOUR CODE HERE"


class ClearSolutions(preprocessors.ClearSolutions):  # type: ignore[misc]
    """nbgrader's own; a cell with a magic keeps that line, and its stub is a comment."""

    code_stub: Any  # nbgrader's trait: {language: text}

    def preprocess_cell(self, cell: Any, resources: Any, cell_index: int) -> Any:
        first = cell.source.partition("\n")[0]
        if cell.cell_type != "code" or not first.startswith(MAGIC):
            return super().preprocess_cell(cell, resources, cell_index)
        usual = self.code_stub
        self.code_stub = dict.fromkeys(usual, STUB)
        try:
            cell, resources = super().preprocess_cell(cell, resources, cell_index)
        finally:
            self.code_stub = usual
        if not cell.source.startswith(first):  # a solution without marks: all of it was taken out
            cell.source = f"{first}\n{cell.source}"
        return cell, resources


def steps() -> list[Any]:
    """What generates an assignment: nbgrader's steps, with this one in place of its namesake."""
    usual = GenerateAssignment.class_traits()["preprocessors"].default()
    return [ClearSolutions if one is preprocessors.ClearSolutions else one for one in usual]
