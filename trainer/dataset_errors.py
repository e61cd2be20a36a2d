"""What ultralytics says about a data set, in the words of our own inspection. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

Words: TypeAlias = "str | Callable[[re.Match[str]], str]"

MOST_FILES = 3
FILE = re.compile(r"(?:^|\s)(\S[^\n]*?): ignoring corrupt image/\w+: ([^\n]*)")

# About one file: what follows its name.
ABOUT_A_FILE: tuple[tuple[str, Words], ...] = (
    (
        r"Label class (-?\d+) exceeds dataset class count (\d+)",
        lambda found: (
            f"the class is {found[1]}, but data.yaml lists only {found[2]} classes "
            f"(0 to {int(found[2]) - 1})"
        ),
    ),
    (
        r"labels require (\d+) columns, (\d+) columns detected",
        lambda found: f"a line has {found[2]} numbers; {found[1]} are wanted",
    ),
    (r"labels require (\d+) columns each", lambda found: f"each line needs {found[1]} numbers"),
    (r"labels mix segment", "some lines are boxes and some are outlines; one kind is wanted"),
    (r"non-normalized or out of bounds", "a coordinate is not between 0 and 1 (pixels?)"),
    (r"negative (?:class )?label", "a number is negative"),
    (r"non-integer class", "a class is not a whole number"),
    (r"could not convert string to float: (.*)", lambda found: f"{found[1]} is not a number"),
    (r"inhomogeneous", "not all lines have the same number of columns"),
    (r"cannot reshape", "a line has an odd number of coordinates"),
    (r"image size (\(.*?\)) <10 pixels", "the picture has fewer than 10 pixels a side"),
    (r"Invalid image format (\w+)", lambda found: f"pictures of the kind {found[1]} are not used"),
    (r"codec can't decode", "its label file is not text in UTF-8"),
    # What is no picture is taken for HEIC at last, which another package would have to read.
    (
        r"cannot identify image file|[Tt]runcated|broken|No module named 'pi_heif'",
        "the picture cannot be read",
    ),
)

# About the whole set.
ABOUT_THE_SET: tuple[tuple[str, Words], ...] = (
    (
        r"'(?:train|val):' (?:key missing|images not found)",
        "data.yaml must name `train` and `val`",
    ),
    (
        r"either 'names' or 'nc' are required|0-class dataset",
        "data.yaml must list the classes under `names`",
    ),
    (
        r"\.ya?ml '(\w+)' must be ([\w ]+), not (\w+)",
        lambda found: f"`{found[1]}` in data.yaml must be {found[2]}, not {found[3]}",
    ),
    (
        r"'names' length (\d+) and 'nc: (.+?)' must match",
        lambda found: (
            f"data.yaml says nc: {found[2]} but names {found[1]} classes; they must agree"
        ),
    ),
    (
        r"'nc: (.+?)' must be an integer",
        lambda found: f"nc in data.yaml is {found[1]!r}, no number",
    ),
    (
        r"(\d+)-class dataset requires class indices (\S+), but you have .*?indices (\S+)",
        lambda found: (
            f"data.yaml numbers the {found[1]} classes {found[3]}; they are numbered {found[2]}"
        ),
    ),
    (
        r"images not found, missing path '(.*?)'",
        lambda found: f"the folder {_short(found[1])} that data.yaml names does not exist",
    ),
    (r"'kpt_shape' in data\.yaml missing", "data.yaml needs `kpt_shape`, such as [17, 3]"),
    (
        r"(Segment|OBB) dataset requires equal numbers of boxes and segments",
        lambda found: (
            "some labels are boxes, and the task "
            f"{found[1].lower()} wants {'outlines' if found[1] == 'Segment' else 'four corners'}"
        ),
    ),
    (r"no training images found", "the folder `train` holds no pictures"),
    (r"No labels found in (\S+)", "no picture of `train` has labels"),
    (r"Found no valid file for the classes (.*?)\.", lambda found: f"no pictures of {found[1]}"),
    (r"No images found in \S+ or its sub", "there is no folder `train` with pictures"),
    (
        r"Error loading data from ([^\n]+)",
        lambda found: f"the folder {_short(found[1])} holds no pictures",
    ),
    (r"No images found in", "a folder of data.yaml holds no pictures"),
    (r"No valid images found", "no picture can be trained on"),
)


def explain_dataset_error(text: str) -> str | None:
    """Return a complaint about a data set in plain words; None where the text is no such."""
    words = _first(ABOUT_THE_SET, text)
    if words is None:
        return None
    files = list(dict.fromkeys(FILE.findall(text)))
    if not files:
        return f"{words}."
    told = [f"{_short(file)}: {_first(ABOUT_A_FILE, why) or why}" for file, why in files]
    more = f"; and {len(told) - MOST_FILES} more" if len(told) > MOST_FILES else ""
    return f"{words}: {'; '.join(told[:MOST_FILES])}{more}."


def _first(rules: tuple[tuple[str, Words], ...], text: str) -> str | None:
    for pattern, words in rules:
        if found := re.search(pattern, text):
            return words if isinstance(words, str) else words(found)
    return None


def _short(file: str) -> str:
    """Return a file's name from the data set's own folder on, without ultralytics' prefix."""
    name = re.sub(r"^(\x1b\[[0-9;]*m)*(train|val|test): *(\x1b\[[0-9;]*m)*", "", file.strip())
    return name.rpartition("/dataset/")[2] or name
