"""A batch as markup: a summary and the table.

Pure functions; file names and typed text go through :func:`html.escape`.
"""

from __future__ import annotations

import html

from ...analysis.batch import Batch, BatchRow
from ...analysis.batch_job import BatchJob
from ...analysis.copies import copies_told, count_normals
from ...analysis.decision import LITTLE
from ...analysis.metrics import auroc
from ...analysis.normal_range import ITSELF
from ...config import MAX_SHOTS
from ...errors import name_some
from ...images.files import plain_name
from ...images.levels import describe_levels, describe_set
from ..common.markup import count_words, jpeg_uri
from .pictures import draw_thumbnail

MANY = 6  # Of fewer images, most above the threshold tell nothing about the normals.
_HEAD = {"score": " aria-sort=descending", "patch": " class=ic-wide"}
AUROC_HELP = (
    "The area under the ROC curve: 100% where every anomalous image scores higher than every "
    "normal one, 50% where the scores say nothing."
)

# One listener for the table: a heading sorts in place, a row asks for Inspect. On a narrow page the
# new result, which lies below the form, is brought into view.
ON_LOAD = """
const sortBy = button => {
  const head = button.closest('th'), key = button.dataset.sort, text = key === 'name';
  const was = head.getAttribute('aria-sort');
  const down = was ? was === 'ascending' : !text;
  head.closest('tr').querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const body = head.closest('table').tBodies[0];
  const compare = (a, b) => text ? a.localeCompare(b, undefined, {numeric: true}) : a - b;
  const ordered = [...body.rows].sort((one, other) => {
    const a = one.dataset[key], b = other.dataset[key];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return (down ? -1 : 1) * compare(a, b) || other.dataset.score - one.dataset.score;
  });
  body.append(...ordered);
};
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-sort]');
  if (button) { sortBy(button); return; }
  const row = event.target.closest('tr[data-row]');
  if (!row) return;
  const about = {row: row.dataset.row, job: row.closest('table').dataset.job};
  trigger(event.target.closest('[data-good]') ? 'good' : 'click', about);
});
const show = () => {
  if (window.innerWidth >= 800 || !props.value) return;
  // Once the progress above it is gone, which moves it.
  setTimeout(() => document.querySelector('#batch-result')?.scrollIntoView(), 200);
};
watch('value', show);
show();  // This runs when the table is first there, and it comes with its first value.
"""


def progress_html(job: BatchJob) -> str:
    """How far a running job is, and how long the rest may take."""
    done, total = len(job.batch.rows), job.total
    left = ""
    if done and job.waiting:
        seconds = job.seconds / done * len(job.waiting)
        if seconds >= 90:
            left = f", about {round(seconds / 60)} minutes left"
        elif seconds >= 3:
            left = f", about {round(seconds)} seconds left"
    say = f"Scored {done} of {total} images{left}"
    return (
        f'<div class="ic-working"><label for="batch-progress" role="status">{say}</label>'
        f'<progress id="batch-progress" value="{done}" max="{total}"></progress></div>'
    )


def summary_html(job: BatchJob) -> str:
    """A summary of the batch, in a heading and a few sentences."""
    batch = job.batch
    rows = batch.scored
    above = [row for row in rows if batch.above(row)]
    if not rows:
        heading = "No image could be scored"
    elif batch.threshold is None:
        heading = f"{count_words(len(rows), 'image')} scored"
    elif not above:
        heading = "No image scores above the threshold"
    else:
        verb = "scores" if len(above) == 1 else "score"
        heading = f"{len(above)} of {count_words(len(rows), 'image')} {verb} above the threshold"
    little = sum(batch.grade(row) == LITTLE for row in rows)
    if little:
        heading += f", {little if little < len(above) else 'all'} of them only a little"
    # Of a visitor's own labels the part below tells more.
    known = [] if job.labelled else _truth(batch)
    sentences = [_range(batch), *_remarks(job), *known]
    text = "".join(f"<p>{sentence}</p>" for sentence in sentences if sentence)
    if job.fails:
        text += f'<p class="ic-fails">{html.escape(job.fails)}</p>'
    return f'<div class="ic-summary"><h2>{heading}</h2>{text}</div>'


def table_html(job: BatchJob) -> str:
    """All files, highest score first; headings sort it where it stands."""
    batch = job.batch
    known = bool(batch.truths)
    heads = [("name", "Image"), ("score", "Score"), ("above", "Against the threshold")]
    heads.append(("patch", "Strongest difference"))
    if known:
        heads.append(("truth", "Actually"))
    cells = "".join(
        f'<th scope="col"{_HEAD.get(key, "")}>'
        f'<button type="button" data-sort="{key}">{title}</button></th>'
        for key, title in heads
    )
    rows = "".join(
        _table_row(batch, row, known) if row.score else _error_row(batch, row, known)
        for row in batch.ranked
    )
    return (
        f'<div class="ic-scored"><table data-job="{html.escape(job.key)}"><caption>Press a heading '
        f"to sort, an image to look at it closely.{_whose(job)}</caption>"
        f"<thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _whose(job: BatchJob) -> str:
    """Which threshold the table speaks of, where the visitor may move another."""
    if not job.labelled or job.batch.threshold is None:
        return ""
    whose = "the normals' own" if job.batch.chosen is None else "your own of Inspect"
    return f" The threshold here is {whose}, {job.batch.threshold:.3f}."


def _table_row(batch: Batch, row: BatchRow, known: bool) -> str:
    name, score = html.escape(plain_name(batch.name(row))), row.score
    uri = jpeg_uri(draw_thumbnail(batch, row), 80)
    truth = data = ""
    if known:
        data = f' data-truth="{int(row.file.anomalous)}"'
        truth = f"<td>{'anomalous' if row.file.anomalous else 'normal'}</td>"
    peak, grid = int(score.patch_map.argmax()), score.patch_map.shape[1]
    distance = score.fused - (batch.threshold or 0.0)
    tone = " class=ic-row-above" if batch.above(row) else ""
    same = score.patch_max == score.fused  # Where the score is just that, its place is news.
    return (
        f'<tr data-row="{batch.index(row)}" data-name="{name}" data-score="{score.fused:.9f}" '
        f'data-above="{distance:.9f}" data-patch="{score.patch_max:.9f}"{data}{tone}>'
        '<th scope="row"><button type="button" title="Look at it in Inspect">'
        f'<img alt="" src="{uri}"><span>{name}</span></button></th>'
        f"<td><strong>{score.fused:.3f}</strong></td>"
        f'<td><span class="ic-tag">{_standing(batch, row)}</span>{_good(batch, row)}</td>'
        f'<td class="ic-wide">{"" if same else f"{score.patch_max:.3f}"}'
        f'<span class="ic-place">row {peak // grid + 1}, column {peak % grid + 1}</span></td>'
        f"{truth}</tr>"
    )


def _good(batch: Batch, row: BatchRow) -> str:
    """A button on what may be a false alarm."""
    if not batch.above(row) or row.file.anomalous or batch.shots >= MAX_SHOTS:
        return ""
    title = "Add it to the normals and score all again"
    return (
        f'<button type="button" class="ic-good" data-good title="{title}">This one is good</button>'
    )


def _standing(batch: Batch, row: BatchRow) -> str:
    if row.score.copy_of is not None:
        return f"is normal {row.score.copy_of + 1}"
    return batch.grade(row) or "no threshold"


def _error_row(batch: Batch, row: BatchRow, known: bool) -> str:
    name = html.escape(plain_name(batch.name(row)))
    return (
        f'<tr class="ic-unread" data-name="{name}"><th scope="row"><div><i></i><span>{name}</span>'
        f'</div></th><td colspan="{3 + known}">{html.escape(row.error)}</td></tr>'
    )


def _range(batch: Batch) -> str:
    if batch.ranges is None and any(original is not None for original in batch.copy_of):
        return "Until there is a range, compare the scores with each other."
    if batch.ranges is None:
        return (
            "One normal gives no range: add a second to learn how far apart normal images lie. "
            "Until then, compare the scores with each other."
        )
    return (
        f"The {count_normals(batch.shots, batch.copy_of)} score {batch.ranges.lowest:.3f} to "
        f"{batch.ranges.highest:.3f} when each is compared with the others; {_which(batch)} is "
        f"{batch.threshold:.3f}."
    )


def _which(batch: Batch) -> str:
    return "the threshold" if batch.chosen is None else "your threshold, from Inspect,"


def _remarks(job: BatchJob) -> list[str]:
    batch, remarks = job.batch, []
    read = describe_set(describe_levels(batch.levels), [row.score.data for row in batch.scored])
    if read:
        remarks.append(f"{read[0].upper()}{read[1:]}.")
    if batch.scale.ignored is not None:
        remarks.append("What is striped does not count, in any of the images.")
    told = copies_told(batch.copy_of, batch.normal_names)
    if told:
        remarks.append(html.escape(told))
    above = sum(bool(batch.above(row)) for row in batch.scored)
    if not batch.truths and len(batch.rows) >= MANY and above > len(batch.scored) / 2:
        remarks.append(
            "Most of them lie above: either most are anomalous, or your normals do not show all "
            "that is good. Press “This one is good” on some that you know to be, one after another."
        )
    found_itself = [row for row in batch.scored if batch.standing(row) == ITSELF]
    # A known bad image counts below: that it looks the same as a normal is how it is missed.
    found_itself = [row for row in found_itself if not (job.labelled and row.file.anomalous)]
    among = [plain_name(batch.name(row)) for row in found_itself]
    if among and len(among) == batch.shots:
        remarks.append(
            f"Your normals, {html.escape(name_some(among))}, are all among these images. Look at "
            "them first: an anomalous one hides others like it."
        )
    elif among:
        verb, score = ("is", "its score says") if len(among) == 1 else ("are", "their scores say")
        remarks.append(
            f"{html.escape(name_some(among))} {verb} among the normals, or copies of them: {score} "
            "nothing."
        )
    unread = sum(row.score is None for row in batch.rows)
    if unread:
        verb, pronoun = ("stands", "it") if unread == 1 else ("stand", "they")
        remarks.append(
            f"{count_words(unread, 'file')} could not be read; {pronoun} {verb} at the end of the "
            "table."
        )
    apart = [plain_name(batch.name(row)) for row in batch.scored if batch.aspect_mismatch(row)]
    if apart:
        remarks.append(
            f"Not in the proportions of any normal: {html.escape(name_some(apart))}. Every image "
            "is made square, so the same thing has another shape there; crop all to the same "
            "proportions."
        )
    remarks += [f"{html.escape(note.rstrip('.'))}." for note in job.notes]
    if job.stopped:
        remarks.append(f"Stopped after {len(batch.rows)} of {job.total} images.")
    if job.phrases:
        remarks.append(
            f"Scored with {count_words(job.phrases, 'phrase')} of your own, as in Inspect."
        )
    return remarks


def _truth(batch: Batch) -> list[str]:
    truths = batch.truths
    share = auroc(truths)
    if share is None:
        return []
    anomalous = sum(truth for truth, _ in truths)
    pairs = anomalous * (len(truths) - anomalous)
    sentences = []
    if batch.threshold is not None:
        found = sum(truth and score > batch.threshold for truth, score in truths)
        false = sum(not truth and score > batch.threshold for truth, score in truths)
        sentences.append(
            f"{anomalous} of the {len(truths)} images are actually anomalous: {found or 'none'} of "
            f"them {'lies' if found == 1 else 'lie'} above the threshold, and {false or 'none'} "
            f"of the {len(truths) - anomalous} others."
        )
    sentences.append(
        f"Of the {pairs} pairs of an anomalous and a normal image, the anomalous one scores higher "
        f'in <abbr title="{AUROC_HELP}">{100 * share:.0f}%</abbr> (AUROC). So few images, chosen '
        "for this page, say little about others."
    )
    return sentences
