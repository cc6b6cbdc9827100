"""Test cells made so that passing is shown by what happens, not by nothing happening.

A student's code runs in the same kernel as the tests, and can take every ``assert`` out of what
comes later (four lines with an AST transformer). Stock nbgrader then sees no error and gives full
points. Here an assert becomes an ``if`` with a ``raise``, and a cell ends by raising a number that
nobody could know: only a cell that arrives there has passed. This stops what strips, skips or
ends; it cannot stop code that is written against it, rewrites the kernel or reads its caller.
Marks that matter come from outside the kernel (coursework.clustertests).

Each test has a number of its own, so that what one test shows to the code it calls is worth
nothing in the next, and nothing in another student's.
"""

from __future__ import annotations

import ast
import hashlib
import hmac
from typing import Any

NAME = "PracticumPassed"


def token(nonce: str, *where: str) -> str:
    """The number of one test: of a run's secret, the student, the notebook and the cell."""
    return hmac.new(nonce.encode(), "\0".join(where).encode(), hashlib.sha256).hexdigest()[:32]


class _Asserts(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        arguments = [node.msg] if node.msg else []
        return ast.If(
            test=ast.UnaryOp(op=ast.Not(), operand=node.test),
            body=[
                ast.Raise(
                    exc=ast.Call(
                        func=ast.Name(id="AssertionError", ctx=ast.Load()),
                        args=arguments,
                        keywords=[],
                    ),
                    cause=None,
                )
            ],
            orelse=[],
        )


def proven(code: str, nonce: str) -> str | None:
    """The cell's code with its proof; None where there can be none: magics, another language.

    A last line that is an expression (its value may be partial credit) is told with the proof.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return None
    tree = _Asserts().visit(tree)
    value: ast.expr = ast.Constant(None)
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        value = tree.body.pop().value
    passed = ast.parse(f"raise type({NAME!r}, (Exception,), {{}})({nonce!r} + ' ' + repr(0))")
    call = next(n for n in ast.walk(passed) if isinstance(n, ast.Call) and _is_repr(n))
    call.args = [value]
    tree.body += passed.body
    return ast.unparse(ast.fix_missing_locations(tree))


def _is_repr(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "repr"


def without_proof(outputs: list[Any], nonce: str) -> list[Any] | None:
    """The outputs of a cell that passed, without the proof and with the value of its last line;
    None when there is no proof."""
    rest = [one for one in outputs if not _is_proof(one, nonce)]
    if len(rest) == len(outputs):
        return None
    told = next(one["evalue"] for one in outputs if _is_proof(one, nonce))
    value = told.partition(" ")[2]
    if value != "None":
        rest.append(
            {
                "output_type": "execute_result",
                "execution_count": None,
                "metadata": {},
                "data": {"text/plain": value},
            }
        )
    return rest


def _is_proof(output: Any, nonce: str) -> bool:
    return (
        isinstance(output, dict)
        and output.get("output_type") == "error"
        and output.get("ename") == NAME
        and str(output.get("evalue", "")).partition(" ")[0] == nonce
    )
