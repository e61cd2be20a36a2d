from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.findings import KEPT, Finding, Findings
from trainer.labels import TASKS, LabelRules, read_labels

RULES = {
    "detect": LabelRules("detect", 2),
    "segment": LabelRules("segment", 2),
    "obb": LabelRules("obb", 2),
    "pose": LabelRules("pose", 2, (2, 3)),
    "pose of 2": LabelRules("pose", 2, (2, 2)),
    "one class": LabelRules("detect", 1),
    "detect of a pose set": LabelRules("detect", 2, (2, 3)),
}
BOX = "0 0.5 0.5 0.2 0.2"
TRIANGLE = "1 0.1 0.1 0.9 0.1 0.5 0.9"
CORNERS = "1 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9"
SEEN = f"{BOX} 0.4 0.4 2 0.6 0.6 0"


def said(text: str, rules: LabelRules) -> list[str]:
    """Return each problem as its level, code and place, and what it says."""
    return [
        f"{one.level} {one.code} {one}" for one in read_labels(text, rules).findings("labels/a.txt")
    ]


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("detect", f"{BOX}\n1 0 1 0.1 1\n"),
        ("detect", f"\ufeff{BOX}".removeprefix("\ufeff")),
        ("detect", f"{BOX}\n\n  \n1 1e-1 .5 0.2 0.2"),
        ("detect", "0.0 0.5 0.5 0.2 0.2"),
        ("detect", "0 1.005 0.5 0.2 0.2"),
        ("detect", f"{TRIANGLE}\n{CORNERS}"),
        ("detect of a pose set", f"{BOX}\n{SEEN}"),
        ("segment", f"{TRIANGLE}\n{CORNERS}"),
        ("obb", CORNERS),
        ("pose", SEEN),
        ("pose of 2", f"{BOX} 0.4 0.4 0.6 0.6"),
    ],
)
def test_a_good_label_file_is_not_spoken_of(rules: str, text: str) -> None:
    assert said(text, RULES[rules]) == []


@pytest.mark.parametrize(
    ("rules", "line", "finding"),
    [
        ("detect", "cat 0.5 0.5 0.2 0.2", "error not_a_number|the class is 'cat', not a number"),
        ("detect", "0 0.5 O.5 0.2 0.2", "error not_a_number|column 3 is 'O.5', not a number"),
        ("detect", "0 nan 0.5 0.2 0.2", "error not_a_number|a number that is not finite"),
        ("detect", "0 0.5 0.5 0.2", "error columns_wrong|4 numbers, but the task detect wants"),
        ("detect", f"{BOX} 0.9", "error columns_wrong|6 numbers, but the task detect wants"),
        ("detect", "0.5 0.5 0.5 0.2 0.2", "error class_broken|'0.5', not a whole number"),
        ("detect", "2 0.5 0.5 0.2 0.2", "error class_unknown|the class is 2, but data.yaml lists"),
        ("detect", "-1 0.5 0.5 0.2 0.2", "error class_unknown|lists only 2 classes (0 to 1)"),
        ("one class", "1 0.5 0.5 0.2 0.2", "error class_unknown|lists only 1 class (0)"),
        ("detect", "0 320 0.5 0.2 0.2", "error coordinate_outside|centre's x is 320; it must be"),
        ("detect", "0 320 0.5 0.2 0.2", "error coordinate_outside|(are these pixels?)"),
        ("detect", "0 0.5 0.5 0.2 1.2", "error coordinate_outside|the height is 1.2; it must be"),
        ("detect", "0 0.5 0.5 -0.005 0.2", "error coordinate_outside|the width is -0.005"),
        ("detect", "0 0.5 0.5 0 0.2", "warning box_empty|no width or no height"),
        ("segment", BOX, "error columns_wrong|the task segment wants a class and the x y of at"),
        ("segment", "0 0.1 0.1 0.9 0.1", "error columns_wrong|5 numbers, but the task segment"),
        ("segment", f"{TRIANGLE} 0.5", "error columns_wrong|8 numbers"),
        ("segment", "1 0.1 0.1 0.9 7 0.5 0.9", "error coordinate_outside|column 5 is 7; it must"),
        ("segment", "1 -0.1 0.1 0.9 0.1 0.5 0.9", "warning outline_outside|column 2 is -0.1"),
        ("obb", BOX, "error columns_wrong|the x y of four corners (9 numbers)"),
        ("obb", TRIANGLE, "warning obb_polygon|3 corners; a box is drawn around them"),
        ("pose", BOX, "error columns_wrong|then 2 keypoints of 3 (11 numbers)"),
        ("pose", f"{BOX} 0.4 1.4 2 0.6 0.6 0", "error coordinate_outside|column 7 is 1.4"),
        ("pose", f"{BOX} 0.4 0.4 -1 0.6 0.6 0", "error coordinate_outside|column 8 is -1; whether"),
        ("pose", SEEN.replace("0.5 0.2", "0.5 -0.005"), "error coordinate_outside|the width is"),
        ("pose", SEEN.replace("0.5 0.5", "0.5 1.5"), "warning box_outside|centre's y is 1.5"),
        ("pose of 2", f"{BOX} 0.4 0.4 0.6 -0.6", "error coordinate_outside|column 9 is -0.6"),
    ],
)
def test_what_is_wrong_is_told_with_its_file_and_line(rules: str, line: str, finding: str) -> None:
    kind, _, words = finding.partition("|")
    good = {"segment": TRIANGLE, "obb": CORNERS, "pose": SEEN}.get(rules, BOX)
    good = f"{BOX} 0.1 0.1 0.2 0.2" if rules == "pose of 2" else good

    told = said(f"{good}\n\n{line}\n", RULES[rules])

    told = [one for one in told if "label_twice" not in one and "labels_mixed" not in one]
    assert len(told) == 1, told
    assert told[0].startswith(f"{kind} labels/a.txt, line 3: ")
    assert words in told[0]


@pytest.mark.parametrize(
    ("rules", "text", "finding"),
    [
        ("detect", "", "warning labels_empty labels/a.txt: the file is empty"),
        ("detect", " \n\n", "warning labels_empty labels/a.txt: the file is empty"),
        ("detect", f"{BOX}\n{BOX}", "warning label_twice labels/a.txt, line 2: the line is the"),
        ("detect", f"{BOX}\n{TRIANGLE}", "error labels_mixed labels/a.txt: some lines are boxes"),
        ("detect of a pose set", f"{SEEN}\n{TRIANGLE}", "error labels_mixed labels/a.txt: some"),
    ],
)
def test_what_is_wrong_with_a_file_as_a_whole_is_told(rules: str, text: str, finding: str) -> None:
    told = said(text, RULES[rules])

    assert len(told) == 1
    assert told[0].startswith(finding)


def test_a_strangers_text_is_quoted_and_short() -> None:
    [told] = said(f"{'x' * 5000}\x1b[31m 0.5 0.5 0.2 0.2", RULES["detect"])

    assert len(told) < 300
    assert "\x1b" not in told


columns = st.sampled_from(
    ["0", "1", "-1", "0.5", "2", "1e999", "nan", "cat", "", "\x00", "\u0661", "1_0"]
)
lines = st.lists(columns, max_size=12).map(" ".join)


@given(st.lists(lines, max_size=5).map("\n".join) | st.text(max_size=50), st.sampled_from(TASKS))
def test_no_text_is_too_odd_to_be_read(text: str, task: str) -> None:
    labels = read_labels(text, LabelRules(task, 2, (2, 3) if task == "pose" else None))

    written = [line for line in text.splitlines() if line.split()]
    assert labels.columns.total() == len(written)
    assert labels.objects.total() <= len(written)
    assert set(labels.objects) <= {0, 1}
    assert all(line is None or 1 <= line <= len(text) + 1 for line, _ in labels.problems)


def found(*kinds: tuple[str, int]) -> Findings:
    findings = Findings()
    for code, count in kinds:
        for number in range(count):
            findings.add(Finding("error", code, f"{code}!", f"{code}-{number}.txt", number or None))
    return findings


def test_no_kind_of_finding_hides_another() -> None:
    findings = found(("many", 50_000), ("few", 1))

    assert [str(one) for one in findings.of("error")][:3] == [
        "many-0.txt: many!",
        "few-0.txt: few!",
        "many-1.txt, line 1: many!",
    ]
    assert len(findings.as_json()["findings"]) == KEPT + 1
    assert findings.as_json()["counts"] == {"many": 50_000, "few": 1}


def test_the_sentence_names_the_first_and_counts_the_rest() -> None:
    assert found(("bad", 1)).sentence("error", 3) == "bad-0.txt: bad!."
    assert found(("bad", 70_001)).sentence("error", 2) == (
        "bad-0.txt: bad!; bad-1.txt, line 1: bad!; and 69999 more."
    )
