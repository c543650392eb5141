// Bodies of bacteria, drawn beforehand in every heading and brightness, and put where they are.

import { tumbles } from "./frames.js";

const HEADINGS = 40;
const BRIGHTNESSES = 8;
const LONG = 1.9; // cells from end to end
const THICK = 0.74;
const [FAR, NEAR] = [3, 3.8]; // cells that a body and its glow fit into; near enough, its flagella too
const CLOSE = 9; // pixels a cell from which on it is near
const SHARPEST = 22; // pixels a cell: nearer, bodies are stretched, for a sheet of them grows with the square
const KINDS = 2 * BRIGHTNESSES * HEADINGS;

export class Bodies {
  /** `palette` is palette.py's, `divides` the energy at which one divides, and is as bright as it gets. */
  constructor(palette, divides) {
    this.palette = palette;
    this.divides = divides;
    this.size = 0;
    this.soaked = null; // the last sheet that was, for whoever comes closer goes back to it
  }

  /** Be ready to draw at `pixels` a cell; `still`: for more than a moment. */
  fit(pixels, still) {
    // While it comes closer, steps of a half octave are good enough; what stays is drawn to the pixel, and copied fastest.
    const size = Math.min(SHARPEST, still ? pixels : 2 ** (Math.ceil(2 * Math.log2(pixels)) / 2));
    // Many small bodies are copied by hand: each call of a canvas takes longer than the few pixels of one.
    this.stamped = still && size <= CLOSE;
    if (this.size !== size && this.soaked?.size === size) Object.assign(this, this.soaked);
    if (this.size !== size) {
      this.size = size;
      this.near = size > CLOSE;
      this.side = Math.ceil((this.near ? NEAR : FAR) * size) + 1;
      this.sheet = document.createElement("canvas");
      this.sheet.width = this.side * HEADINGS;
      this.sheet.height = this.side * BRIGHTNESSES * 2;
      this.pen = this.sheet.getContext("2d", { willReadFrequently: size <= CLOSE });
      this.ink = null;
      this.draft(0, 0);
    }
    this.shown = (this.side / size) * pixels;
    if (this.stamped && this.ink === null) this.soak();
  }

  /** A sheet of bodies, so far off the middle of their squares: a column a heading, a row a brightness, runs first. */
  draft(right, down) {
    const { pen, side, size } = this;
    const { hungry, fed, tumbling } = this.palette;
    pen.resetTransform();
    pen.clearRect(0, 0, this.sheet.width, this.sheet.height);
    for (let row = 0; row < 2 * BRIGHTNESSES; row++) {
      const bright = ((row % BRIGHTNESSES) + 0.5) / BRIGHTNESSES;
      const tumbles = row >= BRIGHTNESSES;
      const colour = mix(hungry, tumbles ? tumbling : fed, tumbles ? 0.4 + 0.6 * bright : bright);
      for (let column = 0; column < HEADINGS; column++) {
        pen.setTransform(size, 0, 0, size, (column + 0.5) * side + right, (row + 0.5) * side + down);
        pen.rotate((2 * Math.PI * column) / HEADINGS);
        body(pen, colour, bright, tumbles, this.near);
      }
    }
  }

  /** Every body as numbers, at four places half a pixel apart; a pixel is its colour times its cover, and its cover. */
  soak() {
    const { size, near, side, sheet, pen } = this;
    this.ink = new Uint32Array(4 * KINDS * side * side);
    for (let place = 3; place >= 0; place--) {
      this.draft((place & 1) / 2, (place >> 1) / 2); // the last one in the middle, as the sheet is to be
      const { data } = pen.getImageData(0, 0, sheet.width, sheet.height);
      let at = place * KINDS * side * side;
      for (let kind = 0; kind < KINDS; kind++) {
        const corner = Math.floor(kind / HEADINGS) * side * sheet.width + (kind % HEADINGS) * side;
        for (let y = 0; y < side; y++) {
          for (let from = 4 * (corner + y * sheet.width), to = from + 4 * side; from < to; from += 4) {
            const cover = data[from + 3];
            const part = cover / 255;
            const [red, green, blue] = [data[from] * part, data[from + 1] * part, data[from + 2] * part];
            this.ink[at++] = (cover << 24) | (blue << 16) | (green << 8) | red;
          }
        }
      }
    }
    this.soaked = { size, near, side, sheet, pen, ink: this.ink };
  }

  /** Which body bacterium i of a frame has. */
  kind(frame, i) {
    const bright = ((BRIGHTNESSES * frame.mostEnergy * frame.energy[i]) / 255 / this.divides) | 0;
    const row = tumbles(frame, i) * BRIGHTNESSES + Math.min(BRIGHTNESSES - 1, bright);
    return row * HEADINGS + (Math.round((frame.direction[i] * HEADINGS) / 256) % HEADINGS);
  }

  /** Draw one, its middle at a place. */
  draw(pen, kind, x, y) {
    const { sheet, side, shown } = this;
    const [left, top] = [(kind % HEADINGS) * side, Math.floor(kind / HEADINGS) * side];
    pen.drawImage(sheet, left, top, side, side, x - shown / 2, y - shown / 2, shown, shown);
  }

  /** The same by hand, to half a pixel, into the opaque pixels of a square picture `wide` pixels a side. */
  stamp(picture, wide, kind, x, y) {
    const { side, ink } = this;
    const left = Math.round(2 * x - side);
    const top = Math.round(2 * y - side);
    const [fromX, fromY] = [left >> 1, top >> 1];
    const [first, last] = [Math.max(0, -fromX), Math.min(side, wide - fromX)];
    const end = Math.min(side, wide - fromY);
    const sprite = ((left & 1) + 2 * (top & 1)) * KINDS + kind;
    for (let row = Math.max(0, -fromY); row < end; row++) {
      let from = (sprite * side + row) * side + first;
      let at = (fromY + row) * wide + fromX + first;
      for (const stop = from + last - first; from < stop; from++, at++) {
        const over = ink[from];
        if (over === 0) continue;
        // Red and blue at once: a product of either has room before it meets the other. What is covered is of 256.
        const cover = over >>> 24;
        const rest = 256 - cover - (cover >> 7);
        const under = picture[at];
        const redBlue = (Math.imul(under & 0xff00ff, rest) >>> 8) & 0xff00ff;
        const green = (Math.imul(under & 0xff00, rest) >>> 8) & 0xff00;
        picture[at] = (0xff000000 | (redBlue + green + (over & 0xffffff))) >>> 0;
      }
    }
  }
}

function mix(a, b, part) {
  return a.map((v, i) => Math.round(v + (b[i] - v) * part));
}

/** One body heading along x, in cells: long and thin where it runs; short, its flagella spread, where it tumbles. */
function body(pen, colour, bright, tumbles, near) {
  const long = tumbles ? LONG * 0.62 : LONG;
  const thick = tumbles ? THICK * 1.12 : THICK;
  const hue = colour.join(" ");
  const reach = (near ? NEAR : FAR) / 2;
  const light = pen.createRadialGradient(0, 0, 0, 0, 0, reach);
  light.addColorStop(0, `rgb(${hue} / ${0.05 + 0.22 * bright})`);
  light.addColorStop(1, `rgb(${hue} / 0)`);
  pen.fillStyle = light;
  pen.fillRect(-reach, -reach, 2 * reach, 2 * reach);
  if (near) {
    // Near enough to see what drives it: a bundle when it runs, strands when it tumbles.
    pen.strokeStyle = `rgb(${hue} / 50%)`;
    pen.lineWidth = 0.09;
    for (const angle of tumbles ? [-2.2, -0.9, 0.9, 2.2] : [0]) {
      pen.beginPath();
      for (let t = 0; t <= 1; t += 0.1) {
        const along = -long / 2 - 0.9 * t;
        const aside = 0.15 * Math.sin(t * 9) * Math.min(1, 3 * t);
        const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
        pen.lineTo(along * cos - aside * sin, along * sin + aside * cos);
      }
      pen.stroke();
    }
  }
  const length = pen.createLinearGradient(-long / 2, 0, long / 2, 0);
  length.addColorStop(0, `rgb(${mix(colour, [0, 0, 0], 0.34).join(" ")})`);
  length.addColorStop(1, `rgb(${mix(colour, [255, 255, 255], 0.22 * bright).join(" ")})`);
  pen.fillStyle = length;
  // A thin dark rim keeps bodies apart where they crowd on bright food.
  pen.strokeStyle = "rgb(4 10 8 / 55%)";
  pen.lineWidth = 0.16;
  pen.beginPath();
  pen.roundRect(-long / 2, -thick / 2, long, thick, thick / 2);
  pen.stroke();
  pen.fill();
}
