"""The table and the reasons in ``docs/compatibility/downstream.md``, made from a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.support.downstream.suites import SUITES
from tests.support.downstream.verdicts import Judged, Verdict

BEGIN, END = "<!-- {} -->", "<!-- /{} -->"
#: More tests than these are counted, not named.
NAMED = 40


def counts(versions: Mapping[str, str], judged: Mapping[str, list[Judged]]) -> str:
    """Return the table: how many tests of each suite have passed, failed, or do not apply."""
    lines = [
        f"| suite | version | {' | '.join(Verdict)} |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for suite, tests in judged.items():
        number = Counter(each.verdict for each in tests)
        cells = " | ".join(str(number[verdict]) for verdict in Verdict)
        lines.append(f"| {suite} | {versions[suite]} | {cells} |")
    return "\n".join(lines)


def reasons(judged: Mapping[str, list[Judged]]) -> str:
    """Return, for each suite, why tests have failed or do not apply."""
    parts: list[str] = []
    for suite in SUITES:
        tests = judged.get(suite.project)
        if tests is None:
            continue
        parts.append(f"### {suite.project}")
        for verdict in (Verdict.FAILED, Verdict.NOT_APPLICABLE):
            grouped: dict[str, list[str]] = {}
            for each in tests:
                if each.verdict is verdict:
                    grouped.setdefault(each.reason, []).append(each.test)
            parts += [f"*{verdict}*, {len(names)}: {reason}{_names(names)}" for reason, names in grouped.items()]
        if suite.left_out:
            by_reason: dict[str, list[str]] = {}
            for name, reason in suite.left_out.items():
                by_reason.setdefault(reason, []).append(Path(name).name)
            parts += [f"*left out*: {_list(names)}: {reason}." for reason, names in by_reason.items()]
        if parts[-1].startswith("###"):
            parts.append("Everything passes.")
    return "\n\n".join(parts)


def write(document: Path, sections: Mapping[str, str]) -> None:
    """Put sections into a document, between their markers."""
    text = document.read_text(encoding="utf-8")
    for name, section in sections.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{section}\n{end}{rest.partition(end)[2]}"
    document.write_text(text, encoding="utf-8")


def _names(tests: list[str]) -> str:
    """Return the tests by module, or only the modules with numbers where there are many."""
    modules: dict[str, list[str]] = {}
    for test in tests:
        module, _, name = test.partition("::")
        modules.setdefault(module.removeprefix("tests."), []).append(name)
    if len(tests) > NAMED:
        return " (" + ", ".join(f"`{module}` {len(names)}" for module, names in sorted(modules.items())) + ")."
    return "\n\n" + "\n".join(f"- `{module}`: {_list(names)}" for module, names in sorted(modules.items()))


def _list(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
