"""Colours, type and layout: system fonts only, one accent, light and dark."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_SANS = ("ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

_UI = Path(__file__).resolve().parents[1]


def read_css() -> str:
    """The style of the page, then that of each tab, which lies with the tab."""
    tabs = (path for path in _UI.glob("*/*.css") if path.stem == path.parent.name)
    paths = [_UI / "common" / "page.css", *sorted(tabs)]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def build_theme() -> gr.themes.Base:
    """The theme of the page."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.zinc,
        font=_SANS,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_md,
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        link_text_color_dark="*primary_300",
        button_primary_text_color="white",
        button_secondary_background_fill="*background_fill_primary",
        button_secondary_border_color="*border_color_primary",
        button_border_width="1px",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_background_fill_selected="*background_fill_secondary",
        checkbox_label_background_fill_selected_dark="*background_fill_secondary",
        checkbox_label_padding="6px 8px",
        block_border_width="1px",
        block_label_background_fill="*background_fill_primary",
        block_label_text_weight="500",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        input_placeholder_color="*neutral_500",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
    )
