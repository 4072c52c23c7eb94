const CELLS = 60, STEP = 4;  // Squares a side, and pixels of the canvas for each.
const setUp = () => {
  const pad = element.querySelector('.ic-pad');
  if (!pad || pad.dataset.ready) return;
  pad.dataset.ready = 'yes';
  const canvas = pad.querySelector('canvas'), pen = canvas.getContext('2d');
  const size = pad.querySelector('input[type=range]');
  const erase = pad.querySelector('input[type=checkbox]');
  const cells = new Uint8Array(CELLS * CELLS), at = {x: CELLS / 2, y: CELLS / 2};
  [...(pad.dataset.part ?? '')].forEach((digit, i) => {
    for (let bit = 0; bit < 4; bit++) cells[4 * i + bit] = parseInt(digit, 16) >> 3 - bit & 1;
  });
  const draw = () => {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    cells.forEach((marked, i) => {
      if (!marked) return;
      const x = i % CELLS, y = (i - x) / CELLS;
      pen.fillStyle = (x + y) % 4 < 2 ? 'rgba(255, 255, 255, 0.85)' : 'rgba(20, 20, 20, 0.6)';
      pen.fillRect(x * STEP, y * STEP, STEP, STEP);
    });
    if (document.activeElement !== canvas) return;
    pen.lineWidth = 2;
    pen.strokeStyle = '#40e6ff';
    pen.beginPath();
    pen.arc(at.x * STEP, at.y * STEP, Math.max(size.value, 1) * STEP, 0, 7);
    pen.stroke();
  };
  const mark = () => {
    const reach = Number(size.value);
    for (let y = Math.max(0, Math.floor(at.y - reach)); y < Math.min(CELLS, at.y + reach); y++)
      for (let x = Math.max(0, Math.floor(at.x - reach)); x < Math.min(CELLS, at.x + reach); x++)
        if (Math.hypot(x + 0.5 - at.x, y + 0.5 - at.y) <= reach) cells[y * CELLS + x] = erase.checked ? 0 : 1;
    draw();
  };
  // From where the brush was to where it is, without gaps.
  const follow = event => {
    const frame = canvas.getBoundingClientRect(), from = {...at};
    const to = {
      x: (event.clientX - frame.left) / frame.width * CELLS,
      y: (event.clientY - frame.top) / frame.height * CELLS,
    };
    const steps = event.type === 'pointerdown' ? 1
      : Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
    for (let i = 1; i <= steps; i++) {
      at.x = from.x + (to.x - from.x) * i / steps;
      at.y = from.y + (to.y - from.y) * i / steps;
      if (i === steps || event.type !== 'pointerdown') mark();
    }
  };
  canvas.addEventListener('pointerdown', event => {
    canvas.setPointerCapture(event.pointerId);
    follow(event);
  });
  canvas.addEventListener('pointermove', event => event.buttons && follow(event));
  const moves = {ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2]};
  canvas.addEventListener('keydown', event => {
    if (event.key === ' ') mark();
    else if (moves[event.key]) {
      at.x = Math.min(CELLS, Math.max(0, at.x + moves[event.key][0]));
      at.y = Math.min(CELLS, Math.max(0, at.y + moves[event.key][1]));
      draw();
    } else return;
    event.preventDefault();
  });
  canvas.addEventListener('focus', draw);
  canvas.addEventListener('blur', draw);
  pad.marks = {cells, draw};
  draw();
};
// Buttons are heard here, as those of a pad that has just come are not known yet.
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-do]');
  if (!button) return;
  setUp();
  const {cells, draw} = button.closest('.ic-pad').marks;
  if (button.dataset.do === 'apply') {
    let part = '';
    for (let i = 0; i < cells.length; i += 4)
      part += (cells[i] << 3 | cells[i + 1] << 2 | cells[i + 2] << 1 | cells[i + 3]).toString(16);
    trigger('click', {part});
  } else if (button.dataset.do === 'clear') {
    cells.fill(0);
    draw();
  } else if (button.dataset.do === 'propose') trigger('propose', {});
  else trigger('click', {part: null});
});
watch('value', () => setTimeout(setUp));
setUp();
