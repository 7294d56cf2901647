// The canvas of the drawing pad: mouse, touch, pen and keyboard make strokes; Python answers.
// State lives in the model, so that two views of one pad agree: strokes [[ [x, y], ... ], ...] in units of a 280 x 280 canvas.

const SIDE = 280; // units; the canvas is shown at this many CSS pixels
const CELL = SIDE / 28; // the keyboard moves from cell to cell of the 28 x 28 grid
const PATIENCE = 4000; // ms until we say that nobody answers
const LARGEST_UPLOAD = 5_000_000; // bytes

const HELP =
  "Drawing pad. Draw a digit with mouse, finger or pen. By keyboard: arrow keys move, space puts the pen down and " +
  "lifts it, Backspace takes back the last stroke, Delete clears.";

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "lenet-pad";
  root.innerHTML = `
    <canvas width="${2 * SIDE}" height="${2 * SIDE}" tabindex="0" role="application" aria-label="${HELP}"
      style="width: ${SIDE}px; height: ${SIDE}px; touch-action: none; cursor: crosshair; background: #fff;
             border: 1px solid var(--jp-border-color0, #757575); border-radius: 2px"></canvas>
    <div style="display: flex; flex-wrap: wrap; gap: 6px; margin: 6px 0; max-width: ${SIDE}px">
      <button type="button" data-do="undo">Undo</button>
      <button type="button" data-do="clear">Clear</button>
      <label style="flex-basis: 100%; color: var(--jp-ui-font-color1, #212121)">or a picture:
        <input type="file" accept="image/*" style="max-width: 190px" aria-label="Upload a picture of a digit"></label>
    </div>
    <div role="status" aria-live="polite" class="lenet-pad-message"
      style="max-width: ${SIDE}px; color: var(--jp-ui-font-color1, #212121)"></div>`;
  el.appendChild(root);
  const canvas = root.querySelector("canvas");
  const message = root.querySelector(".lenet-pad-message");
  const file = root.querySelector("input");
  const pen = canvas.getContext("2d");
  pen.scale(2, 2); // twice as fine, for screens that show it

  let stroke = null; // the one that is being drawn
  let cursor = null; // of the keyboard: [column, row]
  let down = false; // whether the keyboard's pen is down
  let timer = null;
  let sent = 0; // when the last drawing went off, for data-milliseconds

  // --- drawing ---

  function line(points) {
    pen.beginPath();
    pen.moveTo(...points[0]);
    for (const point of points) pen.lineTo(...point);
    if (points.length === 1) pen.lineTo(points[0][0] + 0.01, points[0][1]);
    pen.stroke();
  }

  const background = new Image();
  background.onload = draw;

  function draw() {
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, SIDE, SIDE);
    if (model.get("background")) {
      pen.imageSmoothingEnabled = false;
      pen.drawImage(background, 0, 0, SIDE, SIDE);
    }
    pen.strokeStyle = "#000";
    pen.lineWidth = model.get("pen");
    pen.lineCap = pen.lineJoin = "round";
    for (const points of model.get("strokes")) line(points);
    if (stroke) line(stroke);
    if (cursor && document.activeElement === canvas) {
      pen.lineWidth = 2;
      pen.strokeStyle = down ? "#D55E00" : "#0072B2";
      pen.setLineDash(down ? [] : [3, 2]);
      pen.strokeRect(cursor[0] * CELL, cursor[1] * CELL, CELL, CELL);
      pen.setLineDash([]);
    }
  }

  // --- talking to Python ---

  function say(words) {
    message.textContent = words;
  }

  function send(changes) {
    const version = model.get("version") + 1;
    sent = performance.now();
    delete root.dataset.milliseconds;
    clearTimeout(timer);
    timer = setTimeout(() => {
      say("Python does not answer: it is busy, or was restarted. If so, run the cell above again.");
    }, PATIENCE);
    try {
      for (const [name, value] of Object.entries({ ...changes, version })) model.set(name, value);
      model.save_changes();
    } catch (error) {
      clearTimeout(timer);
      say(`Python cannot be reached (${error.message}). Run the cell above again.`);
    }
  }

  function said() {
    // Another network or a test digit was chosen; while a drawing is on its way, its own answer counts.
    if (model.get("answered") >= model.get("version")) say(model.get("message"));
  }

  function answered() {
    if (model.get("answered") < model.get("version")) return;
    clearTimeout(timer);
    say(model.get("message"));
    // Two frames later the browser has painted what came with the answer.
    requestAnimationFrame(() => requestAnimationFrame(() => {
      if (sent) root.dataset.milliseconds = (performance.now() - sent).toFixed(1);
    }));
  }

  function finish() {
    if (!stroke) return;
    const strokes = [...model.get("strokes"), stroke];
    stroke = null;
    send({ strokes, background: "", upload: "" });
    draw();
  }

  function undo() {
    stroke = null;
    down = false;
    send({ strokes: model.get("strokes").slice(0, -1), background: "", upload: "" });
    draw();
  }

  function clear() {
    stroke = null;
    down = false;
    file.value = "";
    send({ strokes: [], background: "", upload: "" });
    draw();
  }

  // --- mouse, touch, pen ---

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const at = (value, start, size) => Math.round(10 * Math.min(SIDE, Math.max(0, ((value - start) / size) * SIDE))) / 10;
    return [at(event.clientX, box.left, box.width), at(event.clientY, box.top, box.height)];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || stroke) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    cursor = null;
    down = false;
    stroke = [place(event)];
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke || !canvas.hasPointerCapture(event.pointerId)) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const single of events.length ? events : [event]) stroke.push(place(single));
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, finish);

  // --- keyboard ---

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const middle = () => [(cursor[0] + 0.5) * CELL, (cursor[1] + 0.5) * CELL];

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = MOVES[event.key];
    if (!move && ![" ", "Backspace", "Delete"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has other uses for these keys
    cursor = cursor ?? [14, 6];
    if (move) {
      cursor = cursor.map((value, axis) => Math.min(27, Math.max(0, value + move[axis])));
      if (down) stroke.push(middle());
    } else if (event.key === " ") {
      down = !down;
      if (down) stroke = [middle()];
      else finish();
    } else if (event.key === "Backspace") undo();
    else clear();
    draw();
  });
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", () => {
    if (down) {
      down = false;
      finish();
    }
    draw();
  });

  // --- buttons and upload ---

  root.querySelector('[data-do="undo"]').addEventListener("click", undo);
  root.querySelector('[data-do="clear"]').addEventListener("click", clear);
  file.addEventListener("change", () => {
    const chosen = file.files[0];
    if (!chosen) return;
    if (chosen.size > LARGEST_UPLOAD) {
      say(`${chosen.name} has ${(chosen.size / 1e6).toFixed(1)} MB. Choose a picture of at most 5 MB.`);
      return;
    }
    const reader = new FileReader();
    reader.onload = () => send({ strokes: [], background: "", upload: reader.result });
    reader.onerror = () => say(`${chosen.name} cannot be read.`);
    reader.readAsDataURL(chosen);
  });

  function changedBackground() {
    background.src = model.get("background") || "data:,";
    draw();
  }

  model.on("change:strokes", draw);
  model.on("change:background", changedBackground);
  model.on("change:answered", answered);
  model.on("change:message", said);
  changedBackground();
  say(model.get("message"));

  return () => {
    clearTimeout(timer);
    model.off("change:strokes", draw);
    model.off("change:background", changedBackground);
    model.off("change:answered", answered);
    model.off("change:message", said);
  };
}

export default { render };
