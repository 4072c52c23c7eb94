// Cameras for the tab Live: which there are, which was chosen, and why there is no picture. It comes
// before live.js in one script, whose `find`, `video` and `cameraList` it uses.
// The camera chosen last, in this browser: its id, and its label where ids are made anew.
const CHOSEN = 'inctrl-camera';
const chosen = () => {
  try { return JSON.parse(localStorage.getItem(CHOSEN)) ?? {}; } catch { return {}; }
};
const choose = ({deviceId, label}) => {
  try { localStorage.setItem(CHOSEN, JSON.stringify({id: deviceId, label})); } catch { /* Not kept. */ }
};

function facesAway(device) {
  const faces = device.getCapabilities?.().facingMode ?? [];
  return faces.length ? faces.includes('environment') : /back|rear|environment/i.test(device.label);
}

// The cameras on offer, those that look away from the visitor first. Their names are secret until
// the camera was allowed once; with one there is nothing to choose.
async function listCameras() {
  const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => []) ?? [];
  const cameras = devices.filter(device => device.kind === 'videoinput' && device.label);
  cameras.sort((a, b) => facesAway(b) - facesAway(a));
  const now = video.srcObject?.getVideoTracks()[0]?.getSettings().deviceId;
  const {id, label} = chosen();
  const shown = cameras.find(camera => camera.deviceId === (now ?? id)) ?? cameras.find(camera => camera.label === label);
  cameraList.replaceChildren(...cameras.map(camera => new Option(camera.label, camera.deviceId, false, camera === shown)));
  find('.ic-live-cameras').hidden = cameras.length < 2;
  return cameras;
}

// A stream of that camera; where it is gone, of the one on the back of a phone, or any.
async function openCamera(id) {
  const ask = wish => navigator.mediaDevices.getUserMedia({video: {width: {ideal: 640}, ...wish}, audio: false});
  const any = {facingMode: {ideal: 'environment'}};
  if (!id) return ask(any);
  try {
    return await ask({deviceId: {exact: id}});
  } catch (error) {
    if (!['OverconstrainedError', 'NotFoundError'].includes(error.name)) throw error;
    return ask(any);
  }
}

// Why there is no picture, and what to do.
function refusal(error) {
  if (error.name === 'NotAllowedError' || error.name === 'SecurityError') {
    if (/system/i.test(error.message)) return 'The computer keeps the camera from the browser: allow it in the system’s privacy settings, then press Use the camera again.';
    if (/dismiss/i.test(error.message)) return 'The browser’s question was closed without an answer: press Use the camera again, and choose Allow.';
    if (document.featurePolicy?.allowsFeature('camera') === false) return 'The website around this page keeps the camera from it: open the page in a tab of its own.';
    return 'The camera is blocked for this page: allow it with the icon beside the address, or in the browser’s settings for this site, then press Use the camera again.';
  }
  if (error.name === 'NotFoundError' || error.name === 'OverconstrainedError') return 'No camera was found: connect one and press Use the camera again, or open a video or try the example.';
  if (error.name === 'NotReadableError' || error.name === 'AbortError') return 'The camera does not answer; another program may be using it. Close that, or choose another camera, and press Use the camera again.';
  return `The camera cannot be used (${error.name}): open a video or try the example.`;
}
