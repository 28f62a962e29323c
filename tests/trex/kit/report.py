"""Results for programs (JSON) and for people (Markdown)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from kit.search import Result, Trial


def to_json(conditions: dict[str, Any], results: dict[str, Result], trials: list[Trial]) -> str:
    """Everything that is known of a search."""
    document = {
        "conditions": conditions,
        "results": {name: {**asdict(result), "limit": result.limit} for name, result in results.items()},
        "trials": [{**asdict(trial), "loss": trial.loss} for trial in trials],
    }
    return json.dumps(document, indent=2) + "\n"


def to_markdown(conditions: dict[str, Any], results: dict[str, Result], trials: list[Trial]) -> str:
    """The same as two tables, and what was lost where."""
    unit = conditions["unit"]
    lines = [f"# {conditions['profile']}", ""]
    lines += [f"- {key}: {value}" for key, value in conditions.items() if key != "profile"]
    lines += ["", f"| | loss allowed | {unit} | why not more |", "|---|---|---|---|"]
    for name, result in results.items():
        lines.append(f"| {name} | {share(result.tolerance)} | {amount(result.rate)} | {result.limit} |")
    lines += ["", f"| asked, {unit} | offered | packets sent | lost | share | where | measured |", "|" + "---|" * 7]
    for trial in sorted(trials, key=lambda trial: trial.asked):
        where = "; ".join(f"{count} {place}" for place, count in trial.places.items()) or "–"
        measured = "; ".join(f"{key} {shown(value)}" for key, value in trial.notes.items()) or "–"
        cells = [amount(trial.asked), amount(trial.rate), str(trial.sent), str(trial.lost), share(trial.loss)]
        lines.append("| " + " | ".join([*cells, where, measured]) + " |")
    return "\n".join(lines) + "\n"


def amount(value: float) -> str:
    """With a thin space between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def share(value: float) -> str:
    return f"{value * 100:.4g} %"


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {shown(inner)}" for key, inner in value.items())
    if isinstance(value, float):
        return amount(value) if value >= 100 else f"{value:.4g}"
    return str(value)
