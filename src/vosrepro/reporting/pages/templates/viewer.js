// Frame viewer: frame, truth and the masks of two systems side by side, J over time, left and right keys.
(() => {
  const root = document.getElementById("viewer");
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const get = name => root.querySelector(`[data-${name}]`);
  const [pick, ours, theirs, slider, strip, status, play, errors] =
    ["pick", "ours", "theirs", "slider", "strip", "status", "play", "errors"].map(get);
  const canvases = Object.fromEntries([...root.querySelectorAll("canvas")].map(c => [c.dataset.pane, c]));
  const scratch = document.createElement("canvas");
  const pixels = scratch.getContext("2d", { willReadFrequently: true });
  const images = new Map();
  let benchmark, sequence, index = 0, timer = 0;

  data.benchmarks.forEach((b, i) => {
    const group = document.createElement("optgroup");
    group.label = b.title;
    b.sequences.forEach((s, j) => group.append(new Option(s.score === null ? s.name : `${s.name} (${s.score.toFixed(1)})`, `${i}/${j}`)));
    pick.append(group);
  });

  const image = key => {
    if (!images.has(key)) images.set(key, new Promise(done => {
      const element = new Image();
      element.onload = () => done(element);
      element.onerror = () => done(null);
      element.src = data.assets[key];
    }));
    return images.get(key);
  };
  const tile = async sheets => {
    const [w, h] = sequence.size;
    const sheet = await image(sheets[Math.floor(index / sequence.perSheet)]);
    return { sheet, x: 0, y: (index % sequence.perSheet) * h, w, h };
  };
  const labels = t => {
    scratch.width = t.w; scratch.height = t.h;
    pixels.drawImage(t.sheet, t.x, t.y, t.w, t.h, 0, 0, t.w, t.h);
    return pixels.getImageData(0, 0, t.w, t.h);
  };
  const paint = async (pane, sheets, token) => {
    const [w, h] = sequence.size, scale = w < 300 ? 2 : 1, canvas = canvases[pane];
    const frame = await tile(sequence.images);
    const mask = sheets && await tile(sheets);
    const truth = sheets && errors.checked && pane !== "truth" && sequence.known[index] ? await tile(sequence.truth) : null;
    if (token !== run || !frame.sheet) return;
    if (canvas.width !== w * scale || canvas.height !== h * scale) { canvas.width = w * scale; canvas.height = h * scale; }
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = true;
    context.drawImage(frame.sheet, frame.x, frame.y, w, h, 0, 0, w * scale, h * scale);
    if (!mask?.sheet) return;
    const layer = labels(mask), ids = new Uint32Array(layer.data.buffer).slice();
    const right = truth?.sheet ? new Uint32Array(labels(truth).data.buffer).slice() : null;
    const out = pixels.createImageData(w, h), color = out.data;
    for (let y = 0, i = 0; y < h; y++) for (let x = 0; x < w; x++, i++) {
      const id = ids[i];
      if (right && id !== right[i]) {
        color.set(id >>> 24 ? [255, 64, 48, 190] : [40, 150, 255, 190], 4 * i);
      } else if (id >>> 24) {
        const edge = (x && ids[i - 1] !== id) || (x < w - 1 && ids[i + 1] !== id) || (y && ids[i - w] !== id) || (y < h - 1 && ids[i + w] !== id);
        color.set([id & 255, id >>> 8 & 255, id >>> 16 & 255].map(v => Math.min(255, v + 60)), 4 * i);
        color[4 * i + 3] = edge ? 255 : right ? 40 : 120;
      }
    }
    scratch.width = w; scratch.height = h;
    pixels.putImageData(out, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(scratch, 0, 0, w * scale, h * scale);
  };

  let run = 0;
  const value = name => {
    const j = sequence.j[name]?.[index];
    return j === null || j === undefined ? "not scored" : `J ${(100 * j).toFixed(1)}`;
  };
  const show = () => {
    const token = ++run;
    slider.value = index;
    get("name-ours").textContent = ours.value; get("j-ours").textContent = value(ours.value);
    get("name-theirs").textContent = theirs.value; get("j-theirs").textContent = value(theirs.value);
    get("j-truth").textContent = sequence.known[index] ? "" : "no annotation";
    (async () => {
      await paint("frame", null, token);
      await paint("truth", sequence.truth, token);
      await paint("ours", sequence.masks[ours.value], token);
      if (theirs.value) await paint("theirs", sequence.masks[theirs.value], token);
    })();
    const worst = sequence.worst.includes(index) ? ", one of the worst frames" : "";
    const given = sequence.j[ours.value]?.[index] == null && index === 0 ? ", mask given" : "";
    status.textContent = `${sequence.name}, frame ${sequence.frames[index]} (${index + 1} of ${sequence.frames.length})${given}${worst}`;
    slider.setAttribute("aria-valuetext", status.textContent);
    const now = strip.querySelector(".now");
    now.setAttribute("x1", index); now.setAttribute("x2", index);
  };
  const line = (name, color) => {
    const parts = [], series = sequence.j[name] ?? [];
    series.forEach((j, i) => { if (j !== null) parts.push(`${i},${(1 - j).toFixed(3)}`); });
    return `<polyline class="s${color}" points="${parts.join(" ")}"/>`;
  };
  const chart = () => {
    const last = Math.max(1, sequence.frames.length - 1);
    strip.setAttribute("viewBox", `0 -0.03 ${last} 1.06`);
    strip.innerHTML = [0, .5, 1].map(y => `<line class="grid" x1="0" x2="${last}" y1="${y}" y2="${y}"/>`).join("")
      + sequence.worst.map(i => `<line class="worst" x1="${i}" x2="${i}" y1="0" y2="1"/>`).join("")
      + (theirs.value ? line(theirs.value, 1) : "") + line(ours.value, 0) + '<line class="now" y1="-0.03" y2="1.03"/>';
  };
  const go = to => { index = Math.max(0, Math.min(sequence.frames.length - 1, to)); show(); };
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
  const choose = () => {
    const [i, j] = pick.value.split("/").map(Number);
    if (benchmark !== data.benchmarks[i]) {
      benchmark = data.benchmarks[i];
      const before = [ours.value, theirs.value];
      ours.replaceChildren(...benchmark.systems.filter(s => s.own).map(s => new Option(s.name)));
      theirs.replaceChildren(...benchmark.systems.map(s => new Option(s.name)));
      const other = benchmark.systems.find(s => !s.own) ?? benchmark.systems[1];
      if (other) theirs.value = other.name;
      for (const [select, name] of [[ours, before[0]], [theirs, before[1]]])
        if ([...select.options].some(o => o.value === name)) select.value = name;
    }
    sequence = benchmark.sequences[j];
    slider.max = sequence.frames.length - 1;
    get("gap").textContent = sequence.frames.length < sequence.total ? `${sequence.frames.length} of ${sequence.total} frames are shown. ` : "";
    chart();
    go(sequence.worst.length ? sequence.worst[0] : 0);
  };

  pick.addEventListener("change", () => { stop(); choose(); });
  for (const select of [ours, theirs]) select.addEventListener("change", () => { chart(); show(); });
  errors.addEventListener("change", show);
  slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
  get("worst").addEventListener("click", () => {
    stop();
    go(sequence.worst.find(i => i > index) ?? sequence.worst[0] ?? 0);
  });
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.textContent = "Pause";
    timer = setInterval(() => go((index + 1) % sequence.frames.length), 160);
  });
  const seek = event => {
    const box = strip.getBoundingClientRect();
    stop();
    go(Math.round((event.clientX - box.left) / box.width * (sequence.frames.length - 1)));
  };
  strip.addEventListener("pointerdown", event => { strip.setPointerCapture(event.pointerId); seek(event); });
  strip.addEventListener("pointermove", event => { if (event.buttons) seek(event); });
  document.addEventListener("keydown", event => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest?.("select, input, .scroll, summary, pre")) return;
    const box = root.getBoundingClientRect();
    if (box.bottom < 0 || box.top > innerHeight) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    stop();
    go(index + step);
  });
  for (const link of document.querySelectorAll("a[data-show]")) link.addEventListener("click", () => { pick.value = link.dataset.show; choose(); });
  choose();
})();
