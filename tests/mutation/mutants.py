"""Prints the mutants of modules as JSON, one a line: `python mutants.py FILE…`, in an environment that has cosmic-ray.

A mutant is one change of one line. Changes of annotations, docstrings and safeguards are left out: what the code does stays the
same.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

# One change of each kind. Of the many that replace an operator by any other one, those that a test may miss.
OPERATORS = [
    "ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq", "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_Lt_Gt", "ReplaceComparisonOperator_Gt_Lt", "ReplaceComparisonOperator_LtE_GtE",
    "ReplaceComparisonOperator_GtE_LtE", "ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_FloorDiv",
    "ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Mod_FloorDiv", "ReplaceBinaryOperator_BitOr_BitAnd",
    "ReplaceBinaryOperator_BitAnd_BitOr", "ReplaceBinaryOperator_LShift_RShift", "ReplaceBinaryOperator_Pow_Mul",
    "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue",
    "ReplaceAndWithOr", "ReplaceOrWithAnd", "AddNot", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "NumberReplacer",
    "ExceptionReplacer", "ZeroIterationForLoop",
]  # fmt: skip


# Arguments by which Python refuses mistakes; right code does the same without them
SAFEGUARDS = {
    "frozen",
    "slots",
    "strict",
}


class _Meaning(ast.NodeTransformer):
    """Removes what has no effect: annotations, texts that stand alone, and safeguards."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        node.keywords = [one for one in node.keywords if one.arg not in SAFEGUARDS]
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = ast.Constant(None)
        self.generic_visit(node)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


def _meaning(source: str) -> str | None:
    try:
        return ast.dump(_Meaning().visit(ast.parse(source)))
    except SyntaxError:
        return None


def mutants_of(path: Path) -> Iterator[dict[str, str]]:
    """Each mutant of a module, once: the line before and after, and the whole source."""
    source = path.read_text(encoding="utf-8")
    seen = {_meaning(source), None}
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        for mutated in _mutated(source, operator):
            meaning = _meaning(mutated)
            if meaning in seen:
                continue
            seen.add(meaning)
            before, after = _changed(source, mutated)
            yield {"module": str(path), "before": before, "after": after, "source": mutated}


def _mutated(source: str, operator: Operator) -> Iterator[str]:
    """The source with each of the operator's changes."""
    for occurrence in count():
        try:
            mutated = mutate_code(source, operator, occurrence)
        except AttributeError:  # of ExceptionReplacer, at a name with a dot
            continue
        if mutated is None:
            return
        yield mutated


def _changed(source: str, mutated: str) -> tuple[str, str]:
    lines = zip(source.splitlines(), mutated.splitlines(), strict=False)
    return next((before.strip(), after.strip()) for before, after in lines if before != after)


if __name__ == "__main__":
    for file in sys.argv[1:]:
        for mutant in mutants_of(Path(file)):
            print(json.dumps(mutant))
