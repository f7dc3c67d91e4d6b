// Draws, for the source cell under the pointer, its row of the weights over the target frame.
"use strict";
(() => {
  const pairs = JSON.parse(document.getElementById("pairs-data").textContent);

  function load(url) {
    return new Promise((done, fail) => {
      const image = new Image();
      image.onload = () => done(image);
      image.onerror = fail;
      image.src = url;
    });
  }

  function gray(image) {
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height).data;
  }

  async function begin(section, pair) {
    const [source, target, weights] = await Promise.all([...pair.frames, pair.weights].map(load));
    const data = gray(weights);
    const [rows, columns] = pair.grid;
    const cells = rows * columns;
    const left = section.querySelector("[data-source]");
    const right = section.querySelector("[data-target]");
    const status = section.querySelector("[data-status]");
    const heat = document.createElement("canvas");
    heat.width = columns;
    heat.height = rows;
    let [row, column] = pair.begin;

    function draw() {
      const cell = row * columns + column;
      const a = left.getContext("2d");
      a.drawImage(source, 0, 0);
      const x = column * pair.cell_px - pair.left;
      const y = row * pair.cell_px - pair.top;
      a.lineWidth = 2;
      a.strokeStyle = "#000";
      a.strokeRect(x - 1, y - 1, pair.cell_px + 2, pair.cell_px + 2);
      a.strokeStyle = "#ffd23f";
      a.strokeRect(x, y, pair.cell_px, pair.cell_px);
      const pixels = new ImageData(columns, rows);
      let best = 0;
      for (let i = 0; i < cells; i++) {
        const value = data[4 * (cell * cells + i)];
        if (value > data[4 * (cell * cells + best)]) best = i;
        pixels.data.set([255, 60 + 0.6 * value, 0, Math.sqrt(value / 255) * 210], 4 * i);
      }
      heat.getContext("2d").putImageData(pixels, 0, 0);
      const b = right.getContext("2d");
      b.drawImage(target, 0, 0);
      b.drawImage(heat, -pair.left, -pair.top, columns * pair.cell_px, rows * pair.cell_px);
      const bx = Math.round((best % columns) * pair.cell_px - pair.left + pair.cell_px / 2);
      const by = Math.round(Math.floor(best / columns) * pair.cell_px - pair.top + pair.cell_px / 2);
      const px = Math.round(x + pair.cell_px / 2);
      const py = Math.round(y + pair.cell_px / 2);
      const share = (100 * pair.peaks[cell]).toFixed(1);
      status.textContent =
        `(${px}, ${py}) → (${bx}, ${by}): that target cell gives it ${share} % of its weight`;
    }

    function follow(event) {
      const box = left.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * left.width + pair.left;
      const y = ((event.clientY - box.top) / box.height) * left.height + pair.top;
      column = Math.min(columns - 1, Math.max(0, Math.floor(x / pair.cell_px)));
      row = Math.min(rows - 1, Math.max(0, Math.floor(y / pair.cell_px)));
      draw();
    }

    left.addEventListener("pointermove", follow);
    left.addEventListener("pointerdown", follow);
    left.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      row = Math.min(rows - 1, Math.max(0, row + move[0]));
      column = Math.min(columns - 1, Math.max(0, column + move[1]));
      draw();
    });
    draw();
  }

  document.querySelectorAll("[data-pair]").forEach((section) => {
    begin(section, pairs[Number(section.dataset.pair)]);
  });
})();
