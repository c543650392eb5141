// The torus on a canvas: fields as glows, bacteria as small bodies, and what the hand does to them.

import { Bodies } from "./bodies.js";

const TRAIL = 240;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Dish {
  /** `palette` is palette.py's, `width` the world's in cells, `divides` the energy at which one divides. */
  constructor(canvas, width, palette, divides) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d", { alpha: false });
    this.width = width;
    this.palette = palette;
    this.divides = divides;
    this.bodies = new Bodies(palette, divides);
    this.field = document.createElement("canvas");
    this.fieldOf = null; // the frame and the cells that are in it
    this.ground = document.createElement("canvas"); // the field as large as it is seen, where bodies are put by hand
    this.field.width = this.ground.width = 0; // whatever is drawn into them first is of another size
    this.frame = null;
    this.before = null;
    this.arrived = 0;
    this.lasts = 0;
    this.steps = 0;
    this.camera = { x: width / 2, y: width / 2, zoom: 1 };
    this.aim = { x: width / 2, y: width / 2, zoom: 1 };
    this.watching = null;
    this.following = false;
    this.trail = [];
    this.brush = null;
    this.stale = true;
    this.resize();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
  }

  close() {
    this.observer.disconnect();
  }

  resize() {
    const sharp = Math.min(2, window.devicePixelRatio || 1);
    const side = Math.max(64, Math.round(this.canvas.clientWidth * sharp));
    if (side === this.canvas.width) return;
    this.canvas.width = this.canvas.height = side;
    this.stale = true;
  }

  /** Show a frame; where one step takes `lasts` milliseconds, bacteria glide through it instead of jumping. */
  show(frame, now, lasts = 0) {
    const near = this.frame !== null && frame.step - this.frame.step;
    this.before = near === 1 && lasts > 0 ? this.frame : null;
    this.frame = frame;
    this.steps = near || 0;
    this.arrived = now;
    this.lasts = lasts;
    this.stale = true;
    const mine = this.mine();
    if (mine !== undefined) {
      if (near < 0 || near > 8) this.trail = [];
      if (near !== 0) this.trail.push([this.cells(frame.x[mine]), this.cells(frame.y[mine])]);
      if (this.trail.length > TRAIL) this.trail.shift();
    }
  }

  watch(uid) {
    if (uid !== this.watching) this.trail = [];
    this.watching = uid;
    this.stale = true;
    if (uid === null && this.following) this.whole();
    this.following = uid !== null;
  }

  /** See all of it again. */
  whole() {
    this.following = false;
    Object.assign(this.aim, { x: this.width / 2, y: this.width / 2, zoom: 1 });
  }

  closer(by) {
    this.aim.zoom = Math.min(8, Math.max(1, this.aim.zoom * by));
    if (this.aim.zoom === 1 && !this.following) this.whole();
  }

  pan(dx, dy) {
    const scale = (this.camera.zoom * this.canvas.clientWidth) / this.width;
    this.following = false;
    this.camera.x = this.aim.x = this.wrap(this.camera.x - dx / scale);
    this.camera.y = this.aim.y = this.wrap(this.camera.y - dy / scale);
    this.stale = true;
  }

  /** Where in the world a place of the window is, in cells, and how many cells make a pixel there. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const cells = this.width / this.camera.zoom;
    return {
      x: this.wrap(this.camera.x + ((event.clientX - box.left) / box.width - 0.5) * cells),
      y: this.wrap(this.camera.y + ((event.clientY - box.top) / box.height - 0.5) * cells),
      perPixel: cells / box.width,
    };
  }

  cells(position) {
    return (position * this.width) / 65536;
  }

  wrap(value) {
    const wrapped = value % this.width;
    return wrapped < 0 ? wrapped + this.width : wrapped;
  }

  /** From -width / 2 to width / 2. */
  around(value) {
    return this.wrap(value + this.width / 2) - this.width / 2;
  }

  /** Draw, if anything is new. */
  draw(now) {
    if (this.frame === null) return;
    const gliding = this.before !== null && now - this.arrived < this.lasts + 40;
    const moved = this.move();
    if (!this.stale && !gliding && !moved) return;
    this.stale = false;
    const pixels = (this.canvas.width * this.camera.zoom) / this.width; // a cell
    this.bodies.fit(pixels, this.camera.zoom === this.aim.zoom);
    this.all(pixels, gliding ? Math.min(1, (now - this.arrived) / this.lasts) : 1);
    if (this.brush) this.ring(this.brush, this.brush.radius * pixels, "rgb(255 255 255 / 80%)", pixels);
  }

  /** Let the camera come a little closer to where it should be; whether it has moved. */
  move() {
    const { camera, aim } = this;
    // Faster than a few steps a frame there is nothing for the eye to follow: the ring still marks it.
    if (this.following && this.steps <= 16) {
      const mine = this.mine();
      if (mine !== undefined) Object.assign(aim, this.glide(mine, 1), { zoom: Math.max(2.6, aim.zoom) });
    }
    const dx = this.around(aim.x - camera.x);
    const dy = this.around(aim.y - camera.y);
    const dz = Math.log(aim.zoom / camera.zoom);
    if (Math.abs(dx) + Math.abs(dy) + Math.abs(dz) < 1e-3) return false;
    const part = calm.matches ? 1 : 0.12;
    camera.x = this.wrap(camera.x + dx * part);
    camera.y = this.wrap(camera.y + dy * part);
    camera.zoom = Math.abs(dz) < 2e-3 ? aim.zoom : camera.zoom * Math.exp(dz * part);
    return true;
  }

  /** Both fields, by one small image, two pixels a cell, which `pen` stretches. */
  glow(pen, pixels) {
    const { frame, width, camera, palette } = this;
    const { background, food, signal } = palette;
    const across = width / camera.zoom;
    const left = camera.x - across / 2;
    const top = camera.y - across / 2;
    const cells = Math.ceil(across) + 5; // two more on each side than can be seen
    const fromX = Math.floor(left) - 2;
    const fromY = Math.floor(top) - 2;
    const size = 2 * (cells - 2);
    const side = (size / 2) * pixels;
    const stretch = () =>
      pen.drawImage(this.field, (fromX + 1 - left) * pixels, (fromY + 1 - top) * pixels, side, side);
    // What glides over it leaves it as it is.
    const of = [frame, fromX, fromY, cells];
    if (this.fieldOf?.every((one, i) => one === of[i])) return stretch();
    this.fieldOf = of;
    if (this.field.width !== size) {
      this.field.width = this.field.height = size;
      this.fieldPen = this.field.getContext("2d", { alpha: false });
      this.image = this.fieldPen.createImageData(size, size);
      this.image.data.fill(255);
    }
    const bright = (field, most, glow) => {
      const shades = brightnesses(most, glow);
      const part = new Float32Array(cells * cells);
      for (let row = 0, at = 0; row < cells; row++) {
        const y = this.wrap(fromY + row);
        for (let column = 0; column < cells; column++) part[at++] = shades[field[this.wrap(fromX + column) * width + y]];
      }
      return twice(part, cells);
    };
    const eaten = bright(frame.food, frame.mostFood, palette.foodGlow);
    const sensed = frame.signal && bright(frame.signal, frame.mostSignal, palette.signalGlow);
    const pixel = this.image.data;
    for (let i = 0, at = 0; i < eaten.length; i++, at += 4) {
      const f = eaten[i];
      const s = sensed === null ? 0 : sensed[i];
      pixel[at] = background[0] + food[0] * f + signal[0] * s;
      pixel[at + 1] = background[1] + food[1] * f + signal[1] * s;
      pixel[at + 2] = background[2] + food[2] * f + signal[2] * s;
    }
    this.fieldPen.putImageData(this.image, 0, 0);
    stretch();
  }

  /** Where bacterium i is to be seen, in cells; `part` of the way from the frame before. */
  glide(i, part) {
    const { frame, before } = this;
    let x = this.cells(frame.x[i]);
    let y = this.cells(frame.y[i]);
    const then = before && part < 1 ? placesOf(before).get(frame.uid[i]) : undefined;
    if (then !== undefined) {
      x -= this.around(x - this.cells(before.x[then])) * (1 - part);
      y -= this.around(y - this.cells(before.y[then])) * (1 - part);
    }
    return { x, y };
  }

  /** The fields, everyone who can be seen, and what marks the one that is watched. */
  all(pixels, part) {
    const { frame, pen, bodies } = this;
    const wide = this.canvas.width;
    const half = wide / 2;
    const reach = bodies.shown;
    const each = (put) => {
      for (let i = 0; i < frame.n; i++) {
        const { x, y } = this.glide(i, part);
        const cx = half + this.around(x - this.camera.x) * pixels;
        const cy = half + this.around(y - this.camera.y) * pixels;
        if (cx > -reach && cy > -reach && cx < wide + reach && cy < wide + reach) put(bodies.kind(frame, i), cx, cy);
      }
    };
    if (bodies.stamped) {
      const image = this.earth(pixels);
      const picture = new Uint32Array(image.data.buffer);
      each((kind, x, y) => bodies.stamp(picture, wide, kind, x, y));
      pen.putImageData(image, 0, 0);
    } else {
      this.glow(pen, pixels);
      each((kind, x, y) => bodies.draw(pen, kind, x, y));
    }
    const mine = this.mine();
    if (mine === undefined) return this.cross(pixels, half);
    // Whom one watches is drawn once more, above the rest.
    this.path(pixels, half);
    const at = this.glide(mine, part);
    const [dx, dy] = [this.around(at.x - this.camera.x), this.around(at.y - this.camera.y)];
    bodies.draw(pen, bodies.kind(frame, mine), half + dx * pixels, half + dy * pixels);
    this.ring(at, Math.max(2.2 * pixels, 9), "rgb(255 255 255 / 90%)", pixels);
  }

  /** The pixels of the fields. */
  earth(pixels) {
    const wide = this.canvas.width;
    if (this.ground.width !== wide) {
      this.ground.width = this.ground.height = wide;
      this.groundPen = this.ground.getContext("2d", { alpha: false, willReadFrequently: true });
    }
    this.glow(this.groundPen, pixels);
    return this.groundPen.getImageData(0, 0, wide, wide);
  }

  /** Which of the frame is the one that is watched; undefined: none. */
  mine() {
    return this.watching === null || !this.frame ? undefined : placesOf(this.frame).get(this.watching);
  }

  /** Where the one that is watched has been, fading in a few pieces. */
  path(pixels, half) {
    const { pen, trail } = this;
    if (this.watching === null || trail.length < 2) return;
    const piece = Math.ceil(trail.length / 6);
    pen.lineWidth = Math.max(1.2, 0.2 * pixels);
    pen.lineJoin = "round";
    for (let from = 0; from < trail.length - 1; from += piece) {
      let [x, y] = trail[from];
      let ax = half + this.around(x - this.camera.x) * pixels;
      let ay = half + this.around(y - this.camera.y) * pixels;
      pen.strokeStyle = `rgb(255 255 255 / ${(62 * (from + piece)) / (trail.length + piece)}%)`;
      pen.beginPath();
      pen.moveTo(ax, ay);
      for (const [bx, by] of trail.slice(from + 1, from + piece + 1)) {
        ax += this.around(bx - x) * pixels;
        ay += this.around(by - y) * pixels;
        pen.lineTo(ax, ay);
        [x, y] = [bx, by];
      }
      pen.stroke();
    }
  }

  /** Where the one that was watched has died, at the end of its way. */
  cross(pixels, half) {
    if (this.watching === null || !this.trail.length) return;
    this.path(pixels, half);
    const { pen } = this;
    const [x, y] = this.trail.at(-1);
    const cx = half + this.around(x - this.camera.x) * pixels;
    const cy = half + this.around(y - this.camera.y) * pixels;
    const arm = Math.max(5, 0.8 * pixels);
    pen.strokeStyle = "rgb(255 255 255 / 80%)";
    pen.lineWidth = Math.max(1.5, this.canvas.width / 480);
    pen.beginPath();
    pen.moveTo(cx - arm, cy - arm);
    pen.lineTo(cx + arm, cy + arm);
    pen.moveTo(cx + arm, cy - arm);
    pen.lineTo(cx - arm, cy + arm);
    pen.stroke();
  }

  ring({ x, y }, radius, colour, pixels) {
    const { pen } = this;
    const half = this.canvas.width / 2;
    pen.strokeStyle = colour;
    pen.lineWidth = Math.max(1.5, this.canvas.width / 480);
    pen.beginPath();
    pen.arc(
      half + this.around(x - this.camera.x) * pixels,
      half + this.around(y - this.camera.y) * pixels,
      radius,
      0,
      2 * Math.PI,
    );
    pen.stroke();
  }
}

/** Which number of a frame each uid has; made when it is first asked for. */
function placesOf(frame) {
  if (!frame.places) {
    frame.places = new Map();
    for (let i = 0; i < frame.n; i++) frame.places.set(frame.uid[i], i);
  }
  return frame.places;
}

/** How bright each of the 256 bytes of a field is. */
function brightnesses(most, glow) {
  const bright = new Float32Array(256);
  for (let q = 0; q < 256; q++) bright[q] = 1 - Math.exp((-most * (q / 255) ** 2) / glow);
  return bright;
}

/** A square of values at twice the density by quadratic splines, less a ring: straight lines would show as diamonds. */
function twice(values, size) {
  const [far, middle, near] = [0.03125, 0.6875, 0.28125];
  const fine = 2 * (size - 2);
  const rows = new Float32Array(fine * size);
  for (let row = 1, at = 0; row < size - 1; row++) {
    for (let half = 0; half < 2; half++) {
      const [above, below] = half ? [far, near] : [near, far];
      for (let i = row * size; i < (row + 1) * size; i++) {
        rows[at++] = above * values[i - size] + middle * values[i] + below * values[i + size];
      }
    }
  }
  const all = new Float32Array(fine * fine);
  for (let row = 0, at = 0; row < fine; row++) {
    for (let i = row * size + 1; i < (row + 1) * size - 1; i++) {
      all[at++] = near * rows[i - 1] + middle * rows[i] + far * rows[i + 1];
      all[at++] = far * rows[i - 1] + middle * rows[i] + near * rows[i + 1];
    }
  }
  return all;
}
