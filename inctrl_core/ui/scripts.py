"""What the browser does itself once the result of the tab Inspect has come, and before."""

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
# What stands above the result once the form holds something else: that the result is not of it, or,
# without a result, what stood there, but for what was wrong with the last form.
_ABOVE = """
  const shown = document.querySelector('#result')?.offsetHeight;
  const old = '<div class="ic-old" role="status">The form has changed; press Score again.</div>';
  const above = shown ? old : notice.includes('ic-error') ? '' : notice;
"""
FORM_CHANGED = f"notice => {{{_ABOVE} return above;}}"
# What is said of an example's image is not true of the visitor's own.
QUERY_CHANGED = f"notice => {{{_ABOVE} return ['', above];}}"
# A change is asked for below the result that it changes.
CHANGED = """() => {
  const places = document.querySelectorAll('#notice .ic-error, #verdict');
  const place = [...places].find(place => place.offsetHeight);
  place?.scrollIntoView({behavior: 'smooth', block: 'nearest'});
}"""
DESCRIBED = f"() => {{{_DESCRIBED}}}"
SHOWN = f"() => {{{_DESCRIBED}{_IN_VIEW}}}"
# Presses the button where it is on the screen.
PRESS_SCORE = """() => {
  const button = document.querySelector('#score');
  if (button?.offsetParent) button.click();
}"""
