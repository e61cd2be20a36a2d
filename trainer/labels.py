"""What a label file must look like, line by line, for each task. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from trainer.findings import Finding, Level, excerpt

TASKS = ("detect", "segment", "classify", "pose", "obb")
BOX, QUADRANGLE, SMALLEST_POLYGON = 5, 9, 7
# Ultralytics forgives so much of what rounding does; beyond, it drops the picture.
TOLERANCE = 0.01
BOX_NUMBERS = ("the centre's x", "the centre's y", "the width", "the height")
A_LABEL = "a class and four numbers: centre x, centre y, width, height"
FORMS = {
    "detect": f"{A_LABEL} (5 numbers)",
    "segment": "a class and the x y of at least three points (7, 9, 11 … numbers)",
    "obb": "a class and the x y of four corners (9 numbers)",
}

Problem: TypeAlias = tuple[Level, str, str]


@dataclass(frozen=True, slots=True)
class LabelRules:
    """What the lines of a data set may say."""

    task: str
    classes: int
    keypoints: tuple[int, int] | None = None

    @property
    def pose_columns(self) -> int:
        """How many numbers a line with keypoints has."""
        return BOX + self.keypoints[0] * self.keypoints[1] if self.keypoints else 0

    def form(self) -> str:
        """Say what a line holds."""
        if self.task == "pose" and self.keypoints:
            points, each = self.keypoints
            return f"{A_LABEL}, then {points} keypoints of {each} ({self.pose_columns} numbers)"
        return FORMS.get(self.task, FORMS["detect"])

    def accepts(self, columns: int) -> bool:
        """Return whether a line may have so many columns."""
        polygon = _is_polygon(columns)
        match self.task:
            case "pose":
                return columns == self.pose_columns
            case "detect":  # around a polygon, ultralytics draws the box itself
                return columns in {BOX, self.pose_columns} or polygon
            case _:
                return polygon


@dataclass(slots=True)
class Labels:
    """What one label file holds."""

    objects: Counter[int] = field(default_factory=Counter)
    columns: Counter[int] = field(default_factory=Counter)
    problems: list[tuple[int | None, Problem]] = field(default_factory=list)

    def findings(self, file: str) -> Iterator[Finding]:
        """Return the problems as findings about a file."""
        for line, (level, code, message) in self.problems:
            yield Finding(level, code, message, file, line)


def read_labels(text: str, rules: LabelRules) -> Labels:
    """Return what a label file holds and what is wrong with it; never raises."""
    labels, seen, widths = Labels(), dict[str, int](), list[int]()
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.split()
        if not columns:
            continue
        widths.append(len(columns))
        problem = _problem_of(columns, rules, labels.objects)
        if problem is not None:
            labels.problems.append((number, problem))
        first = seen.setdefault(line, number)
        if first != number:
            labels.problems.append((number, _twice(first)))
    labels.columns.update(widths)
    if not seen:
        labels.problems.append((None, EMPTY))
    boxes = {BOX, rules.pose_columns}
    outlines = any(_is_polygon(width) for width in labels.columns if width not in boxes)
    if rules.task == "detect" and outlines and boxes & labels.columns.keys():
        labels.problems.append((None, MIXED))
    return labels


EMPTY: Problem = (
    "warning",
    "labels_empty",
    "the file is empty, so its picture is trained on as one that shows nothing",
)
BOX_EMPTY: Problem = ("warning", "box_empty", "the box has no width or no height")
MIXED: Problem = (
    "error",
    "labels_mixed",
    "some lines are boxes and some are outlines; one file may hold only one of both",
)


def _is_polygon(columns: int) -> bool:
    return columns >= SMALLEST_POLYGON and columns % 2 == 1


def _twice(first: int) -> Problem:
    return "warning", "label_twice", f"the line is the same as line {first}; it counts once"


def _problem_of(columns: list[str], rules: LabelRules, objects: Counter[int]) -> Problem | None:
    try:
        values = [float(column) for column in columns]
    except ValueError:
        return _no_number(columns)
    if not rules.accepts(len(columns)):
        return (
            "error",
            "columns_wrong",
            f"the line has {len(columns)} numbers, but the task {rules.task} wants {rules.form()}",
        )
    if not math.isfinite(sum(values)):
        return "error", "not_a_number", "the line holds a number that is not finite"
    if (wrong := _class_problem(columns[0], values[0], rules)) is not None:
        return wrong
    objects[int(values[0])] += 1
    low, high = min(values[1:]), max(values[1:])
    if low < 0 or high > 1 or (low == 0 and len(values) == BOX):
        problem = _coordinate_problem(values, rules)
        if problem is not None:
            return problem
    if rules.task == "obb" and len(values) != QUADRANGLE:
        return (
            "warning",
            "obb_polygon",
            f"the line has {(len(values) - 1) // 2} corners; a box is drawn around them",
        )
    return None


def _no_number(columns: list[str]) -> Problem:
    for place, column in enumerate(columns):
        try:
            float(column)
        except ValueError:
            what = "the class" if place == 0 else f"column {place + 1}"
            hint = "; a line begins with the class's number, not its name" if place == 0 else ""
            return "error", "not_a_number", f"{what} is {excerpt(column)}, not a number{hint}"
    return "error", "not_a_number", "the line holds something that is not a number"


def _class_problem(written: str, value: float, rules: LabelRules) -> Problem | None:
    if value % 1:
        return "error", "class_broken", f"the class is {excerpt(written)}, not a whole number"
    if 0 <= value < rules.classes:
        return None
    listed = "only 1 class (0)" if rules.classes == 1 else f"only {rules.classes} classes"
    listed += "" if rules.classes == 1 else f" (0 to {rules.classes - 1})"
    return "error", "class_unknown", f"the class is {value:.0f}, but data.yaml lists {listed}"


def _coordinate_problem(values: list[float], rules: LabelRules) -> Problem | None:
    """Call an error what makes ultralytics drop the picture; what it forgives is a warning."""
    if rules.task == "pose":
        return _pose_problem(values, rules)
    if len(values) in {BOX, rules.pose_columns}:
        return _box_problem(values[:BOX])
    return _outline_problem(values)


def _box_problem(values: list[float]) -> Problem | None:
    for place, value in enumerate(values[1:], 1):
        if _is_outside(value) or (place > 2 and value < 0):
            return "error", "coordinate_outside", _outside(place, values, box=True)
    return None if values[3] > 0 and values[4] > 0 else BOX_EMPTY


def _pose_problem(values: list[float], rules: LabelRules) -> Problem | None:
    far = None
    for place, value in enumerate(values[1:], 1):
        low = value < (0 if place in {3, 4} else -TOLERANCE)
        if _is_visibility(place, rules):
            if low:
                told = f"column {place + 1} is {value:g}; whether a keypoint is seen is 0, 1 or 2"
                return "error", "coordinate_outside", told
        elif low or (place >= BOX and value > 1 + TOLERANCE):
            return "error", "coordinate_outside", _outside(place, values, box=place < BOX)
        elif value > 1 + TOLERANCE:
            far = far or place
    if far is not None:
        return "warning", "box_outside", _outside(far, values, box=True)
    return None if values[3] > 0 and values[4] > 0 else BOX_EMPTY


def _outline_problem(values: list[float]) -> Problem | None:
    """An outline may leave the picture as long as the box around it does not."""
    sides = [(min(side), max(side)) for side in (values[1::2], values[2::2])]
    box = [number for low, high in sides for number in ((low + high) / 2, high - low)]
    place = max(range(1, len(values)), key=lambda one: abs(values[one] - 0.5))
    if any(map(_is_outside, box)):
        return "error", "coordinate_outside", _outside(place, values)
    if _is_outside(values[place]):
        told = f"column {place + 1} is {values[place]:g}, which is outside the picture"
        return "warning", "outline_outside", told
    return None


def _is_outside(value: float) -> bool:
    return not -TOLERANCE <= value <= 1 + TOLERANCE


def _is_visibility(place: int, rules: LabelRules) -> bool:
    """Return whether a column says if a keypoint is seen, and is no coordinate."""
    if rules.keypoints is None or rules.keypoints[1] != 3:
        return False
    return place >= BOX and (place - BOX) % 3 == 2


def _outside(place: int, values: list[float], *, box: bool = False) -> str:
    what = BOX_NUMBERS[place - 1] if box else f"column {place + 1}"
    pixels = " (are these pixels?)" if max(values[1:]) > 2 else ""
    return (
        f"{what} is {values[place]:g}; it must be between 0 and 1, "
        f"a share of the picture's width or height{pixels}"
    )
