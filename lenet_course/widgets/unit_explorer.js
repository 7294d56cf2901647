// The maps of one layer on a canvas: click a unit or move to it with the arrow keys. Python answers with the panel.
// Traits: see UnitExplorer in unit_explorer.py.

const GAP = 10; // pixels between maps
const LABEL = 14; // pixels above a map, for its number
const TALLEST = 420; // pixels that a layer may take before its maps get smaller
const PATIENCE = 8000; // milliseconds without an answer before we say so
let instances = 0;

// Where an index is in the picture, and back. A layer without maps is drawn as one grid with a short last line.
const isVector = (maps) => maps.shape[0] === 1;
const toPlace = (maps, index) =>
  isVector(maps) ? [0, Math.floor(index[0] / maps.shape[2]), index[0] % maps.shape[2]] : index;
const toIndex = (maps, [map, row, column]) =>
  isVector(maps) ? [row * maps.shape[2] + column] : [map, row, column];
const exists = (maps, place) =>
  place.every((number, axis) => number >= 0 && number < maps.shape[axis]) &&
  (!isVector(maps) || toIndex(maps, place)[0] < maps.units);

function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// The largest cells with which all maps fit into the width, and into TALLEST if they can; few gaps in the last line.
function arrange([count, height, width], room, largest) {
  const choices = [];
  for (let across = 1; across <= count; across++) {
    // Tiny cells are hard to hit: rather a longer picture than cells below 3 pixels.
    const cell = Math.min(largest, Math.floor((room - GAP * across) / (across * width)));
    if (cell < 3 && across > 1) break;
    const lines = Math.ceil(count / across);
    const down = lines * (Math.max(cell, 3) * height + GAP + LABEL);
    const empty = 1 - count / (across * lines);
    choices.push({ across, cell: Math.max(cell, 3), down, worth: cell * (1 - empty / 2) });
  }
  const low = choices.filter((choice) => choice.down <= TALLEST);
  if (!low.length) return choices[choices.length - 1];
  return low.reduce((best, choice) => (choice.worth > best.worth ? choice : best));
}

const channels = (colour) => (colour.match(/[\d.]+/g) || [255, 255, 255]).slice(0, 3).map(Number);

function element(tag, attributes = {}, style = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.style.cssText = style;
  return made;
}

function render({ model, el }) {
  const id = `lenet-unit-explorer-${++instances}`;
  const ink = "var(--jp-ui-font-color1, var(--vscode-editor-foreground, #212121))";
  const paper = "var(--jp-layout-color0, var(--vscode-editor-background, #ffffff))";
  // The notebook's own keys (arrows change the cell) must not fire while ours are pressed.
  const root = element("div", { "data-lm-suppress-shortcuts": "true" }, `color: ${ink}; background: ${paper}; padding: 4px`);
  const label = element("label", { for: `${id}-layer` }, "margin-right: 6px");
  label.textContent = "Layer";
  const select = element(
    "select",
    { id: `${id}-layer` },
    `color: ${ink}; background: ${paper}; border: 1px solid var(--jp-border-color1, #9e9e9e); padding: 2px 6px; font: inherit`,
  );
  const help = element("p", { id: `${id}-help` }, "margin: 0.4em 0; font-size: 12px");
  const canvas = element(
    "canvas",
    { tabindex: "0", role: "application", "aria-describedby": `${id}-help`, "data-lm-suppress-shortcuts": "true" },
    "display: block; cursor: crosshair; outline-offset: 2px",
  );
  const status = element("p", { "aria-live": "polite" }, "margin: 0.4em 0; font-family: monospace");
  const panel = element("div", { class: "lenet-unit-panel" }, "overflow-x: auto");
  root.append(label, select, help, canvas, status, panel);
  el.append(root);

  let values = new Float32Array(0);
  let place = [0, 0, 0]; // what is marked: ahead of Python while keys are held
  let layout = { across: 1, cell: 1, down: 1 };
  let drawnLayer = null;
  let drawnUnseen = true;
  let lastWidth = 720; // pixels: a guess, until we are on the page
  let sent = 0;
  let sending = null;
  let waiting = null;

  const maps = () => model.get("maps");
  const isLabelled = () => isVector(maps()) && maps().units <= 10; // the ten digits, each with its number
  const valueAt = ([map, row, column]) => values[(map * maps().shape[1] + row) * maps().shape[2] + column];
  const corner = (map) => [
    (map % layout.across) * (maps().shape[2] * layout.cell + GAP) + GAP / 2,
    Math.floor(map / layout.across) * (maps().shape[1] * layout.cell + GAP + LABEL) + LABEL,
  ];

  function draw() {
    const [count, height, width] = maps().shape;
    // A notebook takes cells out of the page that are out of sight: then the last width that we knew still counts, and
    // as there are no theme colours either, it is drawn again on return.
    drawnUnseen = !root.clientWidth;
    lastWidth = root.clientWidth || lastWidth;
    const room = Math.max(240, Math.min(960, lastWidth - 12));
    layout = arrange(maps().shape, room, isLabelled() ? 28 : 16);
    const { cell, across } = layout;
    const full = [Math.min(count, across) * (width * cell + GAP), layout.down];
    const sharp = window.devicePixelRatio || 1;
    canvas.width = Math.round(full[0] * sharp);
    canvas.height = Math.round(full[1] * sharp);
    canvas.style.width = `${full[0]}px`;
    canvas.style.height = `${full[1]}px`;
    const context = canvas.getContext("2d");
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    const ground = channels(getComputedStyle(root).backgroundColor);
    const text = getComputedStyle(root).color;
    const dark = ground[0] + ground[1] + ground[2] < 384;
    const above = dark ? [244, 112, 96] : [178, 24, 43];
    const below = dark ? [92, 166, 240] : [33, 102, 172];
    root.style.setProperty("--lenet-above", above.join(" "));
    root.style.setProperty("--lenet-below", below.join(" "));
    root.style.setProperty("--lenet-frame", dark ? "#ffb000" : "#d55e00");
    context.font = "11px sans-serif";
    for (let map = 0; map < count; map++) {
      const [x, y] = corner(map);
      context.fillStyle = text;
      if (!isVector(maps())) context.fillText(`map ${map}`.slice(width * cell < 34 ? 4 : 0), x, y - 3);
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          if (!exists(maps(), [map, row, column])) continue;
          const value = valueAt([map, row, column]);
          const strength = maps().scale ? Math.min(1, Math.abs(value) / maps().scale) : 0;
          const colour = value < 0 ? below : above;
          const mixed = ground.map((from, channel) => Math.round(from + (colour[channel] - from) * (strength || 0)));
          context.fillStyle = `rgb(${mixed})`;
          context.fillRect(x + column * cell, y + row * cell, cell, cell);
          if (isLabelled()) {
            context.fillStyle = text;
            context.fillText(String(column), x + (column + 0.5) * cell - 3, y - 4);
          }
          if (value < 0 && cell >= 8) {
            // Room for a minus: not by colour alone.
            context.fillStyle = strength > 0.5 ? `rgb(${ground})` : text;
            context.fillRect(x + column * cell + cell / 2 - 2, y + row * cell + cell / 2, 4, 1);
          }
        }
      }
      context.strokeStyle = "#808080";
      context.lineWidth = 1;
      context.strokeRect(x - 0.5, y - 0.5, width * cell + 1, height * cell + 1);
    }
    // The marked unit: two rings, so that one of them stands out on any colour.
    const [x, y] = corner(place[0]);
    const square = [x + place[2] * cell, y + place[1] * cell];
    for (const [colour, out] of [[`rgb(${ground})`, 3], [text, 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.strokeRect(square[0] - out, square[1] - out, cell + 2 * out, cell + 2 * out);
    }
  }

  function nameOf(at) {
    const index = toIndex(maps(), at);
    const layer = model.get("shown").layer;
    return index.length === 1
      ? `${layer}, unit ${index[0]}`
      : `${layer}, map ${index[0]}, row ${index[1]}, column ${index[2]}`;
  }

  function tell() {
    const value = valueAt(place);
    status.textContent = `${nameOf(place)}: output ${Number.isFinite(value) ? value.toFixed(3) : value}`;
    const [count, height, width] = maps().shape;
    const what = isVector(maps()) ? `${maps().units} units` : `${count} maps of ${height} x ${width} units`;
    canvas.setAttribute("aria-label", `Layer ${model.get("shown").layer}, ${what}. Marked: ${status.textContent}`);
    const turn = isVector(maps()) ? "" : " Page Up and Page Down go to the map before and after.";
    const scale = `Red is above 0, blue below; the strongest colour stands for ±${maps().scale.toFixed(3)}.`;
    help.textContent = `${what}. Click one, or move with the arrow keys.${turn} ${scale}`;
  }

  function ask(layer, index) {
    sent = Math.max(sent, model.get("answered")) + 1; // another view of the same widget may have asked as well
    const number = sent;
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (model.get("answered") !== number) {
        status.textContent = "Python does not answer. If the kernel was stopped or restarted, run the cell again.";
      }
    }, PATIENCE);
    try {
      model.set("request", { layer, index, number });
      model.save_changes();
    } catch (error) {
      status.textContent = `Python cannot be reached (${error.message}). Run the cell again.`;
    }
  }

  function mark(next) {
    if (!exists(maps(), next)) return;
    place = next;
    draw();
    tell();
    // A key that is held would ask thirty times a second: ask when the last answer may be there.
    clearTimeout(sending);
    sending = setTimeout(() => {
      sending = null;
      ask(model.get("shown").layer, toIndex(maps(), place));
    }, 60);
  }

  // The unit under the pointer, or the nearest one if that is beside a map: fingers are thicker than cells.
  function unitAt(event) {
    const box = canvas.getBoundingClientRect();
    const [count, height, width] = maps().shape;
    const { cell } = layout;
    for (let map = 0; map < count; map++) {
      const [x, y] = corner(map);
      const [across, down] = [event.clientX - box.left - x, event.clientY - box.top - y];
      const beside = (offset, length, margin) => offset < -margin || offset >= length * cell + margin;
      if (beside(across, width, GAP / 2) || beside(down, height, (GAP + LABEL) / 2)) continue;
      const within = (offset, length) => Math.max(0, Math.min(length - 1, Math.floor(offset / cell)));
      return [map, within(down, height), within(across, width)];
    }
    return null;
  }

  function onClick(event) {
    const at = unitAt(event);
    if (at) mark(at);
  }

  // One step; past a map's edge into the map beside it.
  function step(down, across) {
    const [count, height, width] = maps().shape;
    let [map, row, column] = place;
    row += down;
    column += across;
    if (column < 0 || column >= width) {
      if (isVector(maps())) {
        row += across; // on to the next line, as one reads
      } else {
        map += across;
      }
      column = column < 0 ? width - 1 : 0;
    } else if (!isVector(maps()) && (row < 0 || row >= height)) {
      map += down * layout.across;
      row = row < 0 ? height - 1 : 0;
    }
    if (map >= 0 && map < count) mark([map, row, column]);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowUp: () => step(-1, 0),
      ArrowDown: () => step(1, 0),
      ArrowLeft: () => step(0, -1),
      ArrowRight: () => step(0, 1),
      PageUp: () => mark([place[0] - 1, place[1], place[2]]),
      PageDown: () => mark([place[0] + 1, place[1], place[2]]),
    };
    if (!(event.key in moves)) return;
    event.preventDefault(); // the page would scroll
    event.stopPropagation();
    moves[event.key]();
  }

  function onMaps() {
    values = decode(maps().values);
    onShown();
  }

  function onShown() {
    const shown = model.get("shown");
    const request = model.get("request");
    // An answer to an older request must not pull the mark back while keys are held.
    const behind = request && request.number === sent && model.get("answered") < sent - 1;
    const late = (behind || sending !== null) && shown.layer === drawnLayer && exists(maps(), place);
    drawnLayer = shown.layer;
    if (!late) {
      place = toPlace(maps(), shown.index);
      select.value = shown.layer;
    }
    draw();
    tell();
  }

  function onPanel() {
    panel.innerHTML = model.get("panel"); // made by our own Python, from numbers and escaped words
  }

  function onAnswered() {
    if (model.get("answered") >= sent) {
      clearTimeout(waiting);
      select.value = model.get("shown").layer; // back to what is shown, if the request was refused
    }
  }

  for (const name of model.get("layers")) {
    const option = element("option", { value: name });
    option.textContent = name;
    select.append(option);
  }
  select.addEventListener("change", () => {
    clearTimeout(sending);
    sending = null;
    ask(select.value, null);
  });
  canvas.addEventListener("click", onClick);
  canvas.addEventListener("keydown", onKey);
  const onFocus = () => (canvas.style.outline = `2px solid ${ink}`);
  const onBlur = () => (canvas.style.outline = "none");
  canvas.addEventListener("focus", onFocus);
  canvas.addEventListener("blur", onBlur);
  const listeners = { maps: onMaps, shown: onShown, panel: onPanel, answered: onAnswered };
  for (const [name, listener] of Object.entries(listeners)) model.on(`change:${name}`, listener);

  const sizes = new ResizeObserver(() => {
    if (root.clientWidth && (drawnUnseen || root.clientWidth !== lastWidth)) draw();
  });
  const themes = new MutationObserver(() => draw());
  themes.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-name", "data-jp-theme-light"] });
  sent = model.get("answered");
  onMaps();
  onPanel();
  sizes.observe(root);

  return () => {
    clearTimeout(sending);
    clearTimeout(waiting);
    sizes.disconnect();
    themes.disconnect();
    for (const [name, listener] of Object.entries(listeners)) model.off(`change:${name}`, listener);
  };
}

export default { render };
