// Runs once when the page is opened: what readers of the screen and of the keyboard need, and Gradio's
// markup lacks.
() => {
  const main = document.querySelector('#main');
  // The bar is read before the form that lies below it, in every browser.
  const bar = document.querySelector('#tabs > .tab-wrapper');
  if (bar) main.prepend(bar);

  // A field of images has several buttons, and every field the same ones: each is named after its field.
  const rename = (button, name) => {
    if (button.getAttribute('aria-label') !== name) button.setAttribute('aria-label', name);
  };
  const nameButtons = label => {
    // Without number and limit; and Learn has a choice of the name "Image to check".
    const block = label.closest('.block');
    const field = label.textContent.trim().replace(/^\d+\. |,.*/g, '').replace(/^Images? to check/, 'To check');
    block?.querySelectorAll('button[aria-label]').forEach(button => {
      let name = button.getAttribute('aria-label').replace('common.upload', 'Upload');
      const place = [...block.querySelectorAll('.delete-button')].indexOf(button);
      if (place >= 0) name = name.replace(/image( \d+)?$/, `image ${place + 1}`);
      rename(button, name.startsWith(field) ? name : `${field}: ${name}`);
    });
  };
  // Of a button within a button the outer one is pressed, and hands on to a choice of files within.
  const join = inner => {
    const outer = inner.parentElement.closest('button'), input = inner.querySelector('input[type=file]');
    inner.inert = true;
    if (input) outer.addEventListener('click', event => { if (event.target !== input) input.click(); });
    if (outer.closest('.validation-error')) rename(outer, 'Close this message');
  };
  const tidy = () => {
    document.querySelectorAll('label[data-testid="block-label"]').forEach(nameButtons);
    document.querySelectorAll('#main button button:not([inert])').forEach(join);
    document.querySelectorAll('#main .validation-error:not([role])').forEach(told => told.setAttribute('role', 'alert'));
  };

  // What is drawn anew loses what was opened in it, though its elements stay the same.
  const opened = new WeakSet();
  main.addEventListener('click', event => {
    const part = event.target.closest('summary')?.parentElement;
    if (part) opened[part.open ? 'delete' : 'add'](part);
  }, true);
  new MutationObserver(changes => changes.forEach(({target}) => {
    if (opened.has(target) && !target.open) target.open = true;
  })).observe(main, {subtree: true, attributeFilter: ['open']});

  let due = 0;
  new MutationObserver(() => {
    due ||= requestAnimationFrame(() => { due = 0; tidy(); });
  }).observe(main, {subtree: true, childList: true, attributeFilter: ['aria-label']});
  tidy();
}
