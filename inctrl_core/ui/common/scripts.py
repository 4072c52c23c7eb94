"""Scripts that the browser runs: for the whole page, and around the result of the tab Inspect."""

import json
from pathlib import Path

from .markup import error_html

ACCESS = Path(__file__).with_name("access.js").read_text(encoding="utf-8")

# What is open goes into the address, so that it can be shared. On Spaces the page lies in a frame,
# and the frame's parent is told, as Spaces documents it.
TELL = """
const tell = change => {
  const address = new URL(window.location);
  change(address.searchParams);
  window.history.replaceState(null, '', address);
  if (window.parent !== window) {
    const message = {queryString: address.searchParams.toString()};
    window.parent.postMessage(message, 'https://huggingface.co');
  }
};
"""
# Once the form holds other images the link of the example would show something else.
_UNLINK = f"""{TELL}
  tell(named => ['example', 'query', 'threshold'].forEach(name => named.delete(name)));
"""
NO_EXAMPLE = "There is no example of that name. Choose one of those above."
# Opens the example of a link, as if its button had been pressed.
OPEN_LINK = f"""notice => {{
  const named = new URL(window.location).searchParams;
  if (!named.has('example') || (named.get('tab') ?? 'inspect') !== 'inspect') return notice;
  const buttons = [...document.querySelectorAll('#examples button[data-set]')];
  const button = buttons.find(button => button.dataset.set === named.get('example'));
  if (!button) return {json.dumps(error_html(NO_EXAMPLE))};
  const link = {{threshold: named.get('threshold')}};
  if (named.has('query')) link.query = named.get('query') - 1;
  button.dispatchEvent(new CustomEvent('click', {{bubbles: true, detail: {{link}}}}));
  return notice;
}}"""

# The picture gets its alternative text, which gr.Image has no argument for; and on a narrow page,
# where the result lies below the form, it is brought into view, or what stands in its place.
_DESCRIBED = """
  const picture = document.querySelector('#heatmap img');
  if (picture) picture.alt = 'Heatmap over the image to check; its patches can be examined below';
"""
_IN_VIEW = """
  if (window.innerWidth >= 800) return;
  const places = document.querySelectorAll('#result, #notice .ic-error');
  [...places].find(place => place.offsetHeight)?.scrollIntoView({behavior: 'smooth'});
"""


def _above(result: str, button: str) -> str:
    """The line above a result once the form holds something else.

    That the result is not of it, or, without a result, what stood there, but for what was wrong
    with the last form. A batch that is still being scored says so there, and goes on. A result
    counts in a tab that is not open as well; before the first there is none on the page.
    """
    return f"""
  const shown = document.querySelector('{result}');
  const old = '<div class="ic-old" role="status">The form has changed; press {button} again.</div>';
  const above = notice.includes('ic-working') ? notice
    : shown ? old : notice.includes('ic-error') ? '' : notice;
"""


# Gradio's "input" of a text field is a key that was pressed: what is pasted or dictated is only a
# "change", as what an example fills in is; but there is no cursor in the field then.
_TYPED = "if (!document.activeElement?.closest('#object-name')) return notice;"
_ABOVE = _above("#result", "Score")
_ABOVE_BATCH = _above("#batch-result", "Score all")
FORM_CHANGED = f"notice => {{{_UNLINK}{_ABOVE} return above;}}"
NAME_CHANGED = f"notice => {{{_TYPED}{_ABOVE} return above;}}"
BATCH_CHANGED = f"notice => {{{_ABOVE_BATCH} return above;}}"
BATCH_NAME_CHANGED = f"notice => {{{_TYPED}{_ABOVE_BATCH} return above;}}"
# What is said of an example's image is not true of the visitor's own.
QUERY_CHANGED = f"notice => {{{_UNLINK}{_ABOVE} return ['', above];}}"
# A change is asked for below the result that it changes.
CHANGED = """() => {
  const places = document.querySelectorAll('#notice .ic-error, #verdict');
  const place = [...places].find(place => place.offsetHeight);
  place?.scrollIntoView({behavior: 'smooth', block: 'nearest'});
}"""
# Programs reach the page at the address where the visitor sees it.
_ADDRESSED = """
  const address = window.location.origin + window.location.pathname.replace(/\\/$/, '');
  document.querySelectorAll('[data-address]').forEach(place => place.textContent = address);
"""
THRESHOLD_MOVED = f"""() => {{{_ADDRESSED}{TELL}
  const shown = document.querySelector('#threshold input[type=number]');
  tell(named => named.has('example') && named.set('threshold', shown.value));
}}"""
DESCRIBED = f"() => {{{_DESCRIBED}}}"
SHOWN = f"() => {{{_DESCRIBED}{_ADDRESSED}{_IN_VIEW}}}"
# Presses the button where it is on the screen.
PRESS_SCORE = """() => {
  const button = document.querySelector('#score');
  if (button?.offsetParent) button.click();
}"""
