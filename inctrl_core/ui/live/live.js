// The page's side of the tab Live, after cameras.js. Gradio gives: element, props, trigger, watch.
// One frame is under way at a time; the next is taken when its answer is here.
const find = selector => element.querySelector(selector);
const video = find('video'), picture = find('.ic-live-picture'), line = find('.ic-live-line');
const says = find('.ic-live-says'), stage = find('.ic-live-stage');
const cameraList = find('.ic-live-cameras select');
const SHORTER = 480, KEPT = 240, PATIENCE = 5000, CLIP_SECONDS = 2.5, STEADY = 5, THUMBNAIL = 120;
const shot = document.createElement('canvas'), heat = document.createElement('canvas');

let source = null;      // 'camera', 'video' or 'example'; null when stopped.
let clip = [];          // Images of the example.
let pending = null;     // {id, at, frame} of the frame under way.
let asked = 0;          // Raised by all that makes an earlier wish for the camera void.
let opening = null;     // The wish for the camera under way, or the last one.
let frames = 0, scores = [], times = [], patience = PATIENCE;
let worst = null;       // {fused, at} of the frame with the highest score against these normals.
let yardstickOf = '';       // The range and the threshold that `worst` belongs to.

// What is said already is not said again: a screen reader would read it out with every frame.
const say = text => { if (says.textContent !== text) says.textContent = text; };
const button = name => find(`[data-do=${name}]`);

// Setting a size, be it the same, clears a canvas.
function size(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
}

// A picture on the canvas `shot`, in its proportions; the part that is taken may sway a little.
function draw(image, width, height, shift = 0) {
  const scale = Math.min(1, SHORTER / Math.min(width, height)), part = 1 - Math.abs(shift);
  size(shot, Math.round(width * scale), Math.round(height * scale));
  const left = width * Math.max(0, shift), top = height * (1 - part) / 2;
  shot.getContext('2d').drawImage(image, left, top, width * part, height * part, 0, 0, shot.width, shot.height);
}

// What the source shows now, on the canvas `shot`; false where there is nothing.
function grab() {
  if (source === 'example' && clip.length) {
    const now = performance.now() / 1000, image = clip[Math.floor(now / CLIP_SECONDS) % clip.length];
    draw(image, image.naturalWidth, image.naturalHeight, 0.01 * Math.sin(now * 2));
    return true;
  }
  if (!source || source === 'example' || video.readyState < 2) return false;
  draw(video, video.videoWidth, video.videoHeight);
  return true;
}

const encode = () => shot.toDataURL('image/jpeg', 0.92);

function send() {
  // A tab that is not shown asks for nothing.
  if (!source || pending || !element.isConnected || !stage.offsetParent || !grab()) return;
  const frame = document.createElement('canvas');
  size(frame, shot.width, shot.height);
  frame.getContext('2d').drawImage(shot, 0, 0);
  pending = {id: ++frames, at: performance.now(), frame};
  trigger('frame', {id: pending.id, image: encode()});
}

// Looks often enough for a source that has just started, and past an answer that never came. Each
// time it waits twice as long: where a model is downloaded, frames would pile up on the server.
setInterval(() => {
  if (pending && performance.now() - pending.at > patience) {
    pending = null;
    patience *= 2;
  }
  send();
}, 250);

// The frame under its heatmap, which lies over the part that the model saw; the rest is darkened.
function paint(frame, {map, box, clear}) {
  const context = picture.getContext('2d');
  size(picture, frame.width, frame.height);
  context.drawImage(frame, 0, 0);
  if (!map) return;
  const grid = map.length, pixels = new ImageData(grid, grid);
  map.flat().forEach((share, i) => {
    const colour = props.palette[Math.round(255 * share)];
    // As the overlay of Inspect: clear as far as the normals reach themselves.
    const drawn = clear === null ? Math.max(0.2, 2 * share)
      : share > clear ? 0.6 + (share - clear) / (1 - clear) : 0;
    pixels.data.set([...colour, 178 * Math.min(1, drawn)], 4 * i);
  });
  heat.width = heat.height = grid;
  heat.getContext('2d').putImageData(pixels, 0, 0);
  const [left, top, right, bottom] = box.map((share, i) => share * (i % 2 ? frame.height : frame.width));
  const seen = [left, top, right - left, bottom - top];
  context.fillStyle = 'rgb(0 0 0 / 55%)';
  context.fillRect(0, 0, frame.width, frame.height);
  context.drawImage(frame, ...seen, ...seen);
  context.drawImage(heat, ...seen);
}

function chart(low, high, threshold) {
  const ratio = window.devicePixelRatio || 1, context = line.getContext('2d');
  const width = line.width = line.clientWidth * ratio, height = line.height = line.clientHeight * ratio;
  const style = getComputedStyle(element), colour = name => style.getPropertyValue(name);
  const top = 1.1 * Math.max(0.05, high ?? 0, threshold ?? 0, ...scores), y = value => height * (1 - value / top);
  if (high !== null) {
    context.fillStyle = colour('--ic-band');
    context.fillRect(0, y(high), width, Math.max(ratio, y(low) - y(high)));
  }
  if (threshold !== null) {
    context.fillStyle = context.strokeStyle = colour('--body-text-color-subdued');
    context.font = `${11 * ratio}px ${style.fontFamily}`;
    context.fillText(threshold.toFixed(3), 2 * ratio, Math.max(y(threshold) - 4 * ratio, 11 * ratio));
    context.setLineDash([4 * ratio, 3 * ratio]);
    context.lineWidth = ratio;
    context.beginPath();
    context.moveTo(0, y(threshold));
    context.lineTo(width, y(threshold));
    context.stroke();
    context.setLineDash([]);
  }
  context.strokeStyle = colour('--ic-accent');
  context.lineWidth = 2 * ratio;
  context.beginPath();
  scores.forEach((value, i) => context.lineTo(width * (i + KEPT - scores.length) / (KEPT - 1), y(value)));
  context.stroke();
  const words = scores.length ? `Scores of the last ${scores.length} frames, between ` +
    `${Math.min(...scores).toFixed(3)} and ${Math.max(...scores).toFixed(3)}` : 'No scores yet';
  line.setAttribute('aria-label', words);
}

function pace() {
  const now = performance.now();
  times = [...times.filter(time => now - time < 3000), now];
  const rate = times.length > 1 ? (times.length - 1) / ((now - times[0]) / 1000) : 0;
  find('.ic-live-pace').textContent = rate ? `Scoring about ${rate.toFixed(rate < 2 ? 1 : 0)} frames a second.` : '';
  stage.dataset.rate = rate.toFixed(2);
  stage.dataset.scored = Number(stage.dataset.scored || 0) + 1;
}

// The middle of the last few scores: one blurred frame does not turn the verdict.
function steady() {
  const last = scores.slice(-STEADY).sort((a, b) => a - b);
  return last[Math.floor((last.length - 1) / 2)];
}

// Keeps the frame with the highest score, with its heatmap, and the time it was seen.
function keepWorst(answer) {
  const yardstick = JSON.stringify([answer.low, answer.high, answer.threshold]);
  if (yardstick !== yardstickOf) { worst = null; yardstickOf = yardstick; }
  if (worst && answer.fused <= worst.fused) return;
  worst = {fused: answer.fused, at: new Date()};
  const small = document.createElement('canvas'), scale = THUMBNAIL / Math.max(picture.width, picture.height);
  size(small, Math.round(picture.width * scale), Math.round(picture.height * scale));
  small.getContext('2d').drawImage(picture, 0, 0, small.width, small.height);
  const place = find('.ic-live-worst');
  place.hidden = false;
  place.querySelector('img').src = small.toDataURL('image/jpeg', 0.85);
  place.querySelector('p').textContent = `Highest so far: ${worst.fused.toFixed(3)}, at ${worst.at.toLocaleTimeString()}`;
}

function show(answer, frame) {
  paint(frame, answer);
  if (answer.waiting) return say('Take this frame as a normal when it shows what is sound; two or more are best.');
  scores = [...scores, answer.fused].slice(-KEPT);
  find('.ic-score').textContent = answer.fused.toFixed(3);
  const above = answer.threshold !== null && steady() > answer.threshold;
  find('.ic-live-side').classList.toggle('ic-above', above);
  find('.ic-live-verdict').textContent = answer.threshold === null
    ? answer.shots < 2 ? 'One normal gives no range: take a second one.'
      : 'Copies of one normal give no range: take a different one.'
    : above ? 'Above the threshold' : 'Looks like the normals';
  say(!answer.alike ? 'The proportions of the frame are not those of your normals, so things look stretched to the model. Take normals from this source.'
    : answer.copies ? answer.copies
    : answer.shots < 2 ? 'Take another frame as a normal: two or more give a range.'
    : 'Compared with the normals in the form; take more frames where a sound one scores high.');
  chart(answer.low, answer.high, answer.threshold);
  keepWorst(answer);
  pace();
}

watch('value', () => {
  const answer = JSON.parse(props.value || '{}');
  if (answer.example) return play(answer.example);
  if (answer.taken || answer.refused) button('normal').disabled = !source;
  if (answer.taken) return say(`Frame taken as normal number ${answer.taken}.`);
  const mine = pending && pending.id === answer.id ? pending : null;
  if (mine) {
    pending = null;
    patience = PATIENCE;
  }
  if (answer.error) return say(answer.error);
  if (!source || !mine) return;
  show(answer, mine.frame);
  // Without normals there is nothing to hurry for.
  setTimeout(send, answer.waiting ? 200 : 0);
});

function begin(kind) {
  source = kind;
  frames = 0;
  scores = [];
  times = [];
  worst = null;
  find('.ic-live-worst').hidden = true;
  pending = null;
  patience = PATIENCE;
  stage.hidden = false;
  stage.dataset.scored = 0;
  button('normal').disabled = button('stop').disabled = false;
  say('Starting.');
  // On a narrow page the picture lies below the form.
  if (window.innerWidth < 800) stage.scrollIntoView({behavior: 'smooth', block: 'start'});
  send();
}

function stop() {
  asked += 1;
  source = null;
  pending = null;
  video.pause();
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute('src');
  button('normal').disabled = button('stop').disabled = true;
}

async function camera() {
  stop();
  // Permission may take its time, and the visitor may choose something else meanwhile.
  const mine = opening = asked;
  if (!navigator.mediaDevices) return say(window.isSecureContext
    ? 'This browser has no cameras for pages: open a video or try the example.'
    : 'Browsers give the camera only to pages over https or on the same computer: ask whoever runs this page for an https address, or open a video.');
  try {
    let stream = await openCamera(chosen().id);
    const {label} = chosen(), end = () => stream.getTracks().forEach(track => track.stop());
    if (mine !== asked) return end();
    if (label && stream.getVideoTracks()[0].label !== label) {
      const same = (await listCameras()).find(device => device.label === label);
      if (same) {
        end();
        stream = await openCamera(same.deviceId);
      }
      if (mine !== asked) return end();
    }
    video.srcObject = stream;
    stream.getVideoTracks()[0].addEventListener('ended', () => {
      if (mine !== asked) return;
      stop();
      say('The camera is gone: connect it again, or choose another, and press Use the camera.');
    });
    await video.play();
    if (mine !== asked) return;
    begin('camera');
    listCameras();
  } catch (error) {
    if (mine !== asked) return;
    stop();
    say(refusal(error));
    listCameras();
  }
}

async function openVideo(file) {
  stop();
  video.src = URL.createObjectURL(file);
  try {
    await video.play();
    begin('video');
  } catch (error) {
    stop();
    say('The browser cannot play this video; use MP4 (H.264) or WebM.');
  }
}

async function play(addresses) {
  stop();
  clip = addresses.map(address => Object.assign(new Image(), {src: address}));
  await Promise.all(clip.map(image => image.decode()));
  begin('example');
}

const chooser = find('input[type=file]');
chooser.addEventListener('change', () => { if (chooser.files[0]) openVideo(chooser.files[0]); chooser.value = ''; });
find('label.ic-button').addEventListener('keydown', event => {
  if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); chooser.click(); }
});
button('camera').addEventListener('click', camera);
cameraList.addEventListener('change', () => {
  const {value, selectedOptions: [option]} = cameraList;
  choose({deviceId: value, label: option.label});
  // Also while another is opening: its picture would come under the name of this one.
  if (source === 'camera' || opening === asked) camera();
});
navigator.mediaDevices?.addEventListener?.('devicechange', listCameras);
listCameras();
button('example').addEventListener('click', () => trigger('example', {}));
button('stop').addEventListener('click', () => { stop(); say('Stopped.'); });
button('normal').addEventListener('click', () => {
  if (!grab()) return;
  // Until its answer: a second one on its way would be added to the normals of before the first.
  button('normal').disabled = true;
  setTimeout(() => { button('normal').disabled = !source; }, PATIENCE);
  trigger('normal', {id: 0, image: encode()});
});
// Only now: a click before this script had run would have been lost.
button('camera').disabled = button('example').disabled = false;
