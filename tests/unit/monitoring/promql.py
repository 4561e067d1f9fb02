"""What a PromQL expression asks for, and which labels its answer has: as far as rules and dashboard need it.

Of an expression that is of another shape than those it refuses to say anything (`UnknownShapeError`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import promql_parser as promql

OF_TARGETS = frozenset({"job", "instance"})
"""Labels that `deploy/monitoring/podmonitor.yaml` gives to all."""
Exported = Mapping[str, frozenset[str]]
"""Name of a metric → its labels."""


class UnknownShapeError(Exception):
    pass


def parse(expression: str) -> promql.Expr:
    """With what Grafana puts in for its variables; raises ValueError."""
    return promql.parse(expression.replace("$__rate_interval", "5m"))


def selectors(expression: promql.Expr) -> Iterator[promql.VectorSelector]:
    match expression:
        case promql.VectorSelector():
            yield expression
        case promql.MatrixSelector():
            yield expression.vector_selector
        case promql.BinaryExpr():
            yield from selectors(expression.lhs)
            yield from selectors(expression.rhs)
        case promql.Call():
            for argument in expression.args:
                yield from selectors(argument)
        case promql.AggregateExpr() | promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr():
            yield from selectors(expression.expr)
        case promql.NumberLiteral() | promql.StringLiteral():
            pass
        case _:
            raise UnknownShapeError(type(expression))


def matched(expression: promql.Expr) -> Iterator[tuple[str, str, str]]:
    """Metric, label and value of each matcher."""
    for selector in selectors(expression):
        for matcher in selector.matchers.matchers:
            yield selector.name, matcher.name, matcher.value


def joined(expression: promql.Expr) -> Iterator[tuple[promql.Expr, frozenset[str]]]:
    """Each part of an expression with labels that it is grouped or joined by, and those labels."""
    match expression:
        case promql.BinaryExpr():
            if (modifier := expression.modifier) is not None and modifier.matching is not None:
                named = frozenset(modifier.matching.labels)
                yield expression.lhs, named
                yield expression.rhs, named | frozenset(modifier.group_labels or ())
            yield from joined(expression.lhs)
            yield from joined(expression.rhs)
        case promql.AggregateExpr():
            if expression.modifier is not None:
                yield expression.expr, frozenset(expression.modifier.labels)
            yield from joined(expression.expr)
        case promql.Call():
            for argument in expression.args:
                yield from joined(argument)
        case promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr():
            yield from joined(expression.expr)
        case _:
            pass


def labels(expression: promql.Expr, exported: Exported) -> frozenset[str]:
    """Of what it answers."""
    match expression:
        case promql.VectorSelector():
            return exported[expression.name] | OF_TARGETS
        case promql.MatrixSelector():
            return labels(expression.vector_selector, exported)
        case promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr():
            return labels(expression.expr, exported)
        case promql.AggregateExpr():
            return _aggregated(expression, exported)
        case promql.Call():
            return _called(expression, exported)
        case promql.BinaryExpr():
            return _combined(expression, exported)
        case promql.NumberLiteral():
            return frozenset()
        case _:
            raise UnknownShapeError(type(expression))


def _aggregated(expression: promql.AggregateExpr, exported: Exported) -> frozenset[str]:
    if (modifier := expression.modifier) is None:
        return frozenset()
    named = frozenset(modifier.labels)
    if modifier.type == promql.AggModifierType.By:
        return named
    return labels(expression.expr, exported) - named


def _called(expression: promql.Call, exported: Exported) -> frozenset[str]:
    match expression.func.name:
        case "absent":
            return frozenset(matcher.name for matcher in expression.args[0].matchers.matchers)
        case "vector":
            return frozenset()
        case "histogram_quantile":
            return labels(expression.args[1], exported) - {"le"}
        case "increase" | "rate" | "min_over_time":
            return labels(expression.args[0], exported)
        case other:
            raise UnknownShapeError(other)


def _combined(expression: promql.BinaryExpr, exported: Exported) -> frozenset[str]:
    left, right = labels(expression.lhs, exported), labels(expression.rhs, exported)
    if str(expression.op) == "or":
        return left | right
    if expression.modifier is None or not expression.modifier.group_labels:
        return left or right
    return left | frozenset(expression.modifier.group_labels)
