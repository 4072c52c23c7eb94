"""What the gallery of failures shows and says, case by case.

Paths are relative to the folder of the example sets. Nothing that is seen before the guess (`id`,
`title`, `before`) may tell how the case ends. No score is written here: the page computes them.

Fields of a case: `why` is a key of the page's list of reasons; `made` says how the query was made
where no set has it; `mask` is where it is truly anomalous, where that is known; `after` explains
the outcome and `advice` says what to do; `remedy_normals` are the normals that follow the advice,
where it is about normals.
"""

from __future__ import annotations

from typing import Any

from .board import DRAWN, DRAWN_LICENCE
from .photos import CC0
from .textile import SOURCE as TEXTILE_SOURCE

GRAVEL_SOURCE = "skimage.data.gravel (CC0Textures), tinted; {} by this project's program."
LAWN_SOURCE = "skimage.data.grass (DeviantArt user linolafett), tinted."
MIXED_LICENCE = f"{CC0} (gravel); rest: the project's own."


def _normals(name: str, count: int) -> list[str]:
    """The first normals of a set."""
    return [f"{name}/normals/normal_{i}.jpg" for i in range(1, count + 1)]


_WASHERS = _normals("washer", 5)
_BOARDS, _LAWN = _normals("fools-board", 4), _normals("lawn", 6)
_GRAVEL = _normals("fools-gravel", 4)

_FIELDS = (
    "id", "title", "why", "object_name", "normals", "query", "made", "truth", "mask", "before",
    "after", "advice", "remedy_normals", "source", "licence",
)  # fmt: skip


def _case(**fields: Any) -> dict[str, Any]:
    """One case with every field, in one order."""
    usual = {
        "made": None, "mask": None, "remedy_normals": None, "source": DRAWN,
        "licence": DRAWN_LICENCE,
    }  # fmt: skip
    case = usual | fields
    if set(case) != set(_FIELDS):
        raise ValueError(f"Case {case.get('id')}: its fields are {sorted(case)}.")
    return {field: case[field] for field in _FIELDS}


CASES = [
    _case(
        id="board-bench",
        title="A board on the bench",
        why="rotation",
        object_name="printed circuit board",
        normals=_BOARDS,
        query="fools-board/queries/turned_round.jpg",
        truth="normal",
        before="Four good boards, and one more that somebody has just laid down.",
        after=(
            "Nothing is wrong with this board; it lies the other way round. The model compares "
            "how small patches look, and no patch of the normals shows these parts upside down."
        ),
        advice=(
            "Add a normal in every position that may occur, here one turned board. The price: "
            "normals that differ more make the range wider, so that a small fault may hide in it."
        ),
        remedy_normals=[*_BOARDS, "cases/turned_normal.jpg"],
    ),
    _case(
        id="head-slice",
        title="A head slice",
        why="logical",
        object_name="brain",
        normals=_normals("brain-phantom", 8),
        query="brain-phantom/queries/wide_ventricle.jpg",
        truth="anomalous",
        before="Eight drawn head slices without a finding, and one more.",
        after=(
            "The dark chamber on the left of the picture is much larger than the one on the "
            "right. Each patch of it still looks like a dark chamber of some normal. What is "
            "wrong is how the two halves compare, and the model never compares them."
        ),
        advice=(
            "A model of patches does not see symmetry. Compare the halves by other means: blur the "
            "picture, take its mirror image away from it, and this slice differs more than any of "
            "the normals."
        ),
        source="Drawn by this project's own program. A phantom: no patient's image is used.",
    ),
    _case(
        id="blister-line",
        title="A blister off the line",
        why="works",
        object_name="pill blister pack",
        normals=_normals("pill-blister", 5),
        query="pill-blister/queries/missing_tablet.jpg",
        truth="anomalous",
        mask="pill-blister/masks/missing_tablet_mask.png",
        before="Five sound packs, and one that has just left the machine.",
        after=(
            "One pocket is empty. It is clean foil under a clean dome, so one might expect the "
            "model to pass it. But no normal shows a dome over bare foil: the patches there have "
            "nothing alike to be matched with."
        ),
        advice=(
            "Something missing is found where the bare ground looks unlike anything in the "
            "normals. Do not count on it where the ground is familiar."
        ),
    ),
    _case(
        id="washer-line",
        title="A washer off the line",
        why="normals",
        object_name="metal washer",
        normals=[*_WASHERS[:3], "washer/queries/oil.jpg", *_WASHERS[3:]],
        query="washer/queries/scratch.jpg",
        truth="anomalous",
        mask="washer/masks/scratch_mask.png",
        before="Six washers picked as normals, and one to judge.",
        after=(
            "The washer has two scratches, and the patch that differs most lies on one of them. "
            "But one of the six normals has a drop of oil on it. It differs so much from the other "
            "five that the normal range now includes nearly anything."
        ),
        advice=(
            "Look at the normals before you trust the range: a dot far from the others on the "
            "strip is a normal that does not belong. Take it out."
        ),
        remedy_normals=_WASHERS,
    ),
    _case(
        id="lawn",
        title="A piece of lawn",
        why="quality",
        object_name="grass lawn",
        normals=_LAWN,
        query="cases/squeezed.jpg",
        made="lawn/queries/good_1.jpg, saved again as JPEG of quality 10",
        truth="normal",
        before="Six pictures of one lawn, and a seventh that was sent by phone.",
        after=(
            "The lawn is fine; the file is not. It was squeezed to a small size, which wipes out "
            "the blades and leaves little blocks. To the model that is another material."
        ),
        advice=(
            "Take normals and queries with the same camera and the same settings. Where files "
            "come squeezed, add a normal that went the same way."
        ),
        remedy_normals=[*_LAWN, "cases/squeezed_normal.jpg"],
        source=LAWN_SOURCE,
        licence=CC0,
    ),
    _case(
        id="board-packed",
        title="A board before packing",
        why="logical",
        object_name="printed circuit board",
        normals=_normals("circuit-board", 6),
        query="circuit-board/queries/reversed_chip.jpg",
        truth="anomalous",
        mask="circuit-board/masks/reversed_chip_mask.png",
        before="Six good boards, and one that is about to be packed.",
        after=(
            "The large chip is soldered the wrong way round: its print stands on its head. Black "
            "plastic, pins and print all look familiar, patch by patch. Which way they should "
            "point is a rule, and the model knows no rules."
        ),
        advice=(
            "Crop the normals and this picture to the chip alone: its print then fills many "
            "squares, and the score rises above the normals. Or check the rule with something "
            "that knows it, such as a reader for the print."
        ),
    ),
    _case(
        id="gravel-path",
        title="A gravel path",
        why="lighting",
        object_name="gravel",
        normals=_GRAVEL,
        query="fools-gravel/queries/shadow.jpg",
        truth="normal",
        before="Four pictures of a gravel path, and one of another day.",
        after=(
            "It is the shadow of a post on good gravel. All normals were taken in even light, so "
            "dark stones and the edge of a shadow are new to the model."
        ),
        advice=(
            "Keep the light the same, or add a normal in each light that may occur: here one with "
            "a shadow across it."
        ),
        remedy_normals=[*_GRAVEL, "cases/shaded_normal.jpg"],
        source=GRAVEL_SOURCE.format("shadow drawn"),
        licence=MIXED_LICENCE,
    ),
    _case(
        id="fabric",
        title="A piece of fabric",
        why="spread",
        object_name="textile",
        normals=_normals("textile", 8),
        query="textile/queries/global_defect_2.jpg",
        truth="anomalous",
        before="Eight pieces of good fabric, and one from another roll.",
        after=(
            "The fibres of the whole piece run a little differently. Every patch differs "
            "slightly, none differs much, and this model's score is that of its most different "
            "square."
        ),
        advice=(
            "For faults that are everywhere at once, compare the mean of the map instead of its "
            "peak: by the mean, this piece differs more than any of the normals."
        ),
        source=TEXTILE_SOURCE,
        licence="MIT, copyright 2025 Megahed (textile/LICENSE.txt).",
    ),
    _case(
        id="board-drawer",
        title="A board from the drawer",
        why="works",
        object_name="printed circuit board",
        normals=_normals("circuit-board", 6),
        query="cases/half_light.jpg",
        made="circuit-board/queries/good_1.jpg, every value halved",
        truth="normal",
        before="Six good boards in bright light, and one photographed later.",
        after=(
            "A good board in half the light. The picture is plainly darker than every normal, yet "
            "edges and shapes are the same ones, and those are most of what the model looks at."
        ),
        advice=(
            "Even dimming is forgiven, a shadow with an edge is not. Still, keep the light the "
            "same where you can: other models may be less forgiving."
        ),
    ),
    _case(
        id="blister-belt",
        title="A blister on the belt",
        why="proportions",
        object_name="pill blister pack",
        normals=_normals("pill-blister", 5),
        query="cases/square_frame.jpg",
        made="pill-blister/queries/good_2.jpg, the table continued above and below",
        truth="normal",
        before="Five packs in wide pictures, and the next one on the belt in a square picture.",
        after=(
            "The pack is sound. But the small model makes every picture square, and squeezes its "
            "longer side to do so. The normals are wider than high and this picture is not, so the "
            "same pack reaches the model in another shape, and nearly all of it differs."
        ),
        advice=(
            "Give all pictures the same proportions: cut this one to those of the normals, and the "
            "pack is passed."
        ),
    ),
    _case(
        id="washer-tray",
        title="A washer on a tray",
        why="texture",
        object_name="metal washer",
        normals=_normals("washer", 6),
        query="cases/ground_washer.jpg",
        made="drawn like the set washer, with straight lines in place of circles",
        truth="normal",
        before="Six washers for one order, and another that would fill the same order.",
        after=(
            "The washer is sound. It was ground on a belt, which leaves straight lines; the "
            "normals were turned on a lathe, which leaves circles. Both are good, but the normals "
            "show only one. The authors of the method report failures of this kind too: normal "
            "images whose texture is unlike that of the few they were given."
        ),
        advice="Let the normals show every finish that is allowed: add one ground washer.",
        remedy_normals=[*_normals("washer", 6), "cases/ground_normal.jpg"],
    ),
    _case(
        id="board-lamp",
        title="A board under the lamp",
        why="small",
        object_name="printed circuit board",
        normals=_BOARDS,
        query="fools-board/queries/cut_track.jpg",
        truth="anomalous",
        mask="fools-board/masks/cut_track_mask.png",
        before="Four good boards, and one that an inspector holds under the lamp.",
        after=(
            "One copper track at the upper right is cut, over a gap of two pixels. The model sees "
            "the picture as 15 by 15 patches, each many times as wide as the gap: what is wrong "
            "hardly changes how its patch looks."
        ),
        advice=(
            "Move closer, or cut the pictures into parts and judge each against the same part of "
            "the normals: around this track, a part a fifth as wide is enough to find it."
        ),
    ),
]
