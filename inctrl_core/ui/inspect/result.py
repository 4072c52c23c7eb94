"""All that the tab Inspect shows of a result, from the verdict down to the code."""

from __future__ import annotations

import gradio as gr

from ...analysis.defects import shown_as_defect
from ...analysis.session import Session
from ...model.evidence import DECIDE
from ..common.charts import axis_top
from ..common.form import Shown
from .code import code_html
from .defects import SHOW, DefectView, defects_html
from .ignore import build_pad, pad_html
from .map_view import MapView
from .render import ledger_html, text_html
from .verdict import verdict_html

ADD = "False alarm? Add this image to the normals"
TAKE_OUT = "Take this image out of the normals again"
NO_DEFECT = "This is no defect after all"
# Keys of inctrl_core.model.evidence.LOOKS_FOR, in the order of the page.
LOOKS_FOR = {
    "decide": "decide from my normals",
    "flaw": "a flaw in the thing",
    "kind": "another kind of thing",
}


class ResultView:
    """Components; the tab wires them.

    Args:
        session: The visitor's session.
    """

    def __init__(self, session: gr.State) -> None:
        self.map = MapView(session)
        self.defects = DefectView()
        # What it does belongs to the tab Learn.
        self.follow = gr.Button(
            "Follow it step by step", size="sm", elem_id="follow-result", render=False
        )

    def build(self) -> None:
        """Lays out everything, hidden until there is a result."""
        with gr.Column(visible=False, elem_id="result") as self.column:
            self.verdict = gr.HTML(elem_id="verdict")
            self.leave_out = gr.Button(size="sm", visible=False, elem_id="leave-out")
            self.threshold = gr.Slider(
                0,
                1,
                step=0.001,
                label="Threshold",
                info="An image above it counts as anomalous. Higher: fewer good images above, and "
                "more anomalous ones below.",
                buttons=[],
                elem_id="threshold",
            )
            self.looks_for = gr.Radio(
                [(words, key) for key, words in LOOKS_FOR.items()],
                value=DECIDE,
                label="An anomaly is",
                elem_id="looks-for",
            )
            self.map.build()
            with gr.Row(elem_id="result-buttons"):
                self.toggle_normal = gr.Button(ADD, size="sm", elem_id="add-normal")
                self.defects.show.render()
                self.find_missing = gr.Button(
                    "Is something missing?", size="sm", elem_id="find-missing"
                )
                self.follow.render()
                self.save = gr.Button("Save this result (HTML)", size="sm", elem_id="save-result")
                self.keep = gr.Button("Save the normals", size="sm", elem_id="save-normals")
            self.download = gr.DownloadButton(visible=False)
            self.ignore = build_pad()
            self.defects.build()
            self.missing = gr.HTML(elem_id="missing")
            self.map.build_provenance()
            self.defects.here.render()
            gr.Markdown("### What do the words say?", elem_classes="ic-heading")
            self.text = gr.HTML(elem_id="text")
            self._build_phrases()
            gr.Markdown("### What makes up the score?", elem_classes="ic-heading")
            self.ledger = gr.HTML(elem_id="ledger")
            self.code = gr.HTML(elem_id="code")

    def _build_phrases(self) -> None:
        with gr.Accordion("Add phrases of your own", open=False):
            with gr.Row():
                self.own_normal = gr.Textbox(
                    label="Describe it when sound, one phrase a line", lines=3, min_width=240
                )
                self.own_anomaly = gr.Textbox(
                    label="Describe it when damaged, one phrase a line", lines=3, min_width=240
                )
            self.apply = gr.Button("Use these phrases", size="sm", elem_id="apply-phrases")
            self.phrase_notice = gr.HTML(elem_id="phrase-notice")

    @property
    def fields(self) -> list[gr.components.Component]:
        """The visitor's own phrases."""
        return [self.own_normal, self.own_anomaly]

    @property
    def outputs(self) -> list[gr.components.Component]:
        """All that :meth:`shown` writes and draws."""
        words = [self.column, self.verdict, self.leave_out, self.threshold, self.looks_for]
        words += [self.map.layer, self.map.parts, self.toggle_normal]
        words += [self.defects.show, self.defects.listed, self.ignore]
        return [*self.map.pictures, *words, self.text, self.ledger, self.code, self.missing]

    def phrases(self, session: Session) -> Shown:
        """The phrases of a session, for their fields."""
        normal, anomaly = ("\n".join(phrases) for phrases in session.phrases)
        return {self.own_normal: normal, self.own_anomaly: anomaly}

    def shown(self, session: Session | None, controls: Shown) -> Shown:
        """All that is seen of a result."""
        return self.map.shown(session, controls) | self._written(session, controls[self.map.layer])

    def _written(self, session: Session | None, layer: str) -> Shown:
        """All that the display controls do not change; without a session nothing is seen."""
        if session is None:
            written = self.verdict, self.defects.listed, self.ignore, self.text, self.ledger
            hidden = dict.fromkeys((*written, self.code, self.missing), "")
            return {self.column: gr.Column(visible=False)} | hidden
        gated = session.config.heads.form == "gated"
        return self.map.offered(session, layer) | {
            self.column: gr.Column(visible=True),
            self.verdict: verdict_html(session),
            self.leave_out: _leave_out(session),
            self.threshold: _threshold_slider(session),
            self.looks_for: gr.Radio(value=session.bank.looks_for, visible=gated),
            self.toggle_normal: ADD if session.score.copy_of is None else TAKE_OUT,
            self.defects.show: SHOW if shown_as_defect(session) is None else NO_DEFECT,
            self.defects.listed: defects_html(session),
            self.ignore: pad_html(session),
            self.text: text_html(session),
            self.ledger: ledger_html(session),
            self.code: code_html(session),
            self.missing: "",
        }


def _leave_out(session: Session) -> gr.Button:
    if session.odd is None:
        return gr.Button(visible=False)
    return gr.Button(f"Leave out normal {session.odd.index + 1}", visible=True)


def _threshold_slider(session: Session) -> gr.Slider:
    """The slider at the session's threshold, with room above all that is shown beside it."""
    threshold, ranges = session.threshold, session.ranges
    if threshold is None:
        return gr.Slider(visible=False)
    highest = 0.0 if ranges is None else ranges.highest
    top = axis_top(max(session.score.fused, highest, threshold))
    return gr.Slider(value=round(threshold, 3), maximum=top, visible=True)
