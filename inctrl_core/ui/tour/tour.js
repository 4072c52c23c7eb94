// Runs once the head of the page is there, and leads through the page. The address names the step.
const tour = element.querySelector('#tour');
const steps = [...tour.querySelectorAll('[data-step]')];
const button = name => tour.querySelector(`[data-tour="${name}"]`);
const begin = element.querySelector('[data-tour="begin"]');
let at = -1;

const seen = selector => document.querySelector(selector)?.checkVisibility();
// Whether it has come before the visitor went on.
const comes = async (selector, step) => {
  for (let tries = 0; tries < 600 && at === step; tries++) {
    if (seen(selector)) return true;
    await new Promise(done => setTimeout(done, 100));
  }
  return false;
};
const mark = place => {
  document.querySelectorAll('.ic-toured').forEach(other => other.classList.remove('ic-toured'));
  if (!place) return;
  place.classList.add('ic-toured');
  const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
  place.scrollIntoView({behavior: calm ? 'auto' : 'smooth', block: 'start'});
};

const show = async step => {
  const from = at;
  at = step;
  const chosen = steps[step];
  tour.hidden = false;
  steps.forEach(other => { other.hidden = other !== chosen; });
  button('back').hidden = step === 0;
  button('next').textContent = step === steps.length - 1 ? 'Finish' : 'Next';
  chosen.querySelector('h2').focus({preventScroll: true});
  tell(named => named.set('tour', step + 1));
  const {tab, place} = chosen.dataset;
  if (steps[from]?.dataset.tab !== tab) {
    if (!await comes(`#${tab}-button`, step)) return;
    document.querySelector(`#${tab}-button`).click();
  }
  if (tab === 'inspect' && !seen('#verdict .ic-score')) {
    if (!await comes('#examples button[data-set]', step)) return;
    const cards = [...document.querySelectorAll('#examples button[data-set]')];
    // One that is being scored is waited for.
    if (!document.querySelector('#queries .ic-set')) {
      (cards.find(card => card.dataset.set === 'EXAMPLE') ?? cards[0]).click();
    }
    if (!await comes('#verdict .ic-score', step)) return;
    await new Promise(done => setTimeout(done, 300));  // What has come is scrolled to first.
  }
  if (await comes(place, step)) mark(document.querySelector(place));
};
const end = () => {
  at = -1;
  tour.hidden = true;
  mark(null);
  tell(named => named.delete('tour'));
  begin.focus({preventScroll: true});
};

begin.addEventListener('click', () => show(0));
button('end').addEventListener('click', end);
button('back').addEventListener('click', () => show(at - 1));
button('next').addEventListener('click', () => at === steps.length - 1 ? end() : show(at + 1));
document.addEventListener('keydown', event => {
  if (event.key === 'Escape' && !tour.hidden) end();
});
const named = new URL(window.location).searchParams.get('tour');
if (named !== null) show(Math.min(Math.max(parseInt(named, 10) || 1, 1), steps.length) - 1);
