const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const setUp = () => {
  const pad = element.querySelector('.ic-draw-pad');
  if (!pad || pad.dataset.ready) return;
  pad.dataset.ready = 'yes';
  const canvas = pad.querySelector('canvas'), pen = canvas.getContext('2d');
  const picture = pad.querySelector('img'), told = pad.querySelector('output');
  const size = pad.querySelector('[name=size]'), softness = pad.querySelector('[name=softness]');
  const own = pad.querySelector('input[type=color]');
  const [side, least, most, points] = ['side', 'least', 'most', 'points'].map(name => Number(pad.dataset[name]));
  const shorter = Math.min(canvas.width, canvas.height);
  const strokes = [], at = {x: 0.5, y: 0.5};
  let current = null, shown = false;
  // Equal steps of the slider are equal ratios.
  const diameter = () => clamp(least * (most / least) ** (size.value / 100), least, most);
  const under = () => {
    const copy = document.createElement('canvas');
    [copy.width, copy.height] = [picture.naturalWidth, picture.naturalHeight];
    const read = copy.getContext('2d');
    read.drawImage(picture, 0, 0);
    const [x, y] = [at.x * copy.width, at.y * copy.height].map(Math.floor);
    const pixel = read.getImageData(Math.min(x, copy.width - 1), Math.min(y, copy.height - 1), 1, 1);
    return '#' + [...pixel.data].slice(0, 3).map(value => value.toString(16).padStart(2, '0')).join('');
  };
  const colour = () => {
    const chosen = pad.querySelector('[type=radio]:checked').value;
    return chosen === 'under' ? under() : chosen === 'own' ? own.value : chosen;
  };
  const paint = stroke => {
    const across = stroke.diameter * shorter;
    pen.filter = stroke.softness ? `blur(${0.25 * stroke.softness * across}px)` : 'none';
    pen.lineWidth = across;
    pen.lineCap = pen.lineJoin = 'round';
    pen.strokeStyle = stroke.colour;
    pen.beginPath();
    stroke.points.forEach(([x, y], i) => pen[i ? 'lineTo' : 'moveTo'](x * canvas.width, y * canvas.height));
    const [x, y] = stroke.points.at(-1);
    pen.lineTo(x * canvas.width, y * canvas.height);  // Of one point too.
    pen.stroke();
    pen.filter = 'none';
  };
  const draw = () => {
    const pixels = diameter() * side;
    told.textContent = `${pixels < 10 ? pixels.toFixed(1) : Math.round(pixels)} pixels across`;
    size.setAttribute('aria-valuetext', told.textContent);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    strokes.forEach(paint);
    if (current) paint(current);
    else if (shown || document.activeElement === canvas) {
      for (const [width, line] of [[4, '#141414'], [2, '#40e6ff']]) {
        pen.lineWidth = width;
        pen.strokeStyle = line;
        pen.beginPath();
        pen.arc(at.x * canvas.width, at.y * canvas.height, Math.max(diameter() * shorter / 2, 5), 0, 7);
        pen.stroke();
      }
    }
  };
  const send = name => {
    const share = value => String(Number(value.toFixed(4)));
    const text = strokes.map(({colour, diameter, softness, points}) => [
      colour.slice(1), share(diameter), share(softness), ...points.map(point => point.map(share).join(',')),
    ].join(' ')).join(';');
    trigger(name, {strokes: text});
  };
  const begin = () => {
    current = {colour: colour(), diameter: diameter(), softness: softness.value / 100, points: [[at.x, at.y]]};
  };
  const end = () => {
    if (!current) return;
    strokes.push(current);
    current = null;
    draw();
    send('stroke');
  };
  const follow = event => {
    const frame = canvas.getBoundingClientRect();
    at.x = clamp((event.clientX - frame.left) / frame.width, 0, 1);
    at.y = clamp((event.clientY - frame.top) / frame.height, 0, 1);
  };
  canvas.addEventListener('pointerdown', event => {
    if (event.button || current) return;
    canvas.setPointerCapture(event.pointerId);
    follow(event);
    begin();
    draw();
  });
  canvas.addEventListener('pointermove', event => {
    follow(event);
    shown = true;
    if (current) {
      const [x, y] = current.points.at(-1);
      if (Math.hypot(at.x - x, at.y - y) >= Math.max(0.004, current.diameter / 8)) current.points.push([at.x, at.y]);
      // Of too many every second is enough, but for the ends.
      if (current.points.length > points) current.points = current.points.filter((_, i, all) => i % 2 === 0 || i === all.length - 1);
    }
    draw();
  });
  canvas.addEventListener('pointerup', end);
  canvas.addEventListener('pointercancel', end);
  canvas.addEventListener('pointerleave', () => { shown = false; draw(); });
  const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  canvas.addEventListener('keydown', event => {
    const move = moves[event.key];
    if (event.key === ' ' && !event.repeat && !current) {
      begin();
      end();
    } else if (move) {
      at.x = clamp(at.x + move[0] / 40, 0, 1);
      at.y = clamp(at.y + move[1] / 40, 0, 1);
      draw();
    } else if (event.key !== ' ') return;
    event.preventDefault();
  });
  for (const name of ['focus', 'blur']) canvas.addEventListener(name, draw);
  size.addEventListener('input', draw);
  own.addEventListener('input', () => { pad.querySelector('[value=own]').checked = true; });
  pad.drawing = {strokes, draw, send};
  draw();
};
// Buttons are heard here, as those of a pad that has just come are not known yet.
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-do]');
  if (!button) return;
  setUp();
  const {strokes, draw, send} = button.closest('.ic-pad').drawing;
  if (button.dataset.do === 'find') return send('smallest');
  if (button.dataset.do === 'undo') strokes.pop();
  else strokes.length = 0;
  draw();
  send('stroke');
});
watch('value', () => setTimeout(setUp));
setUp();
