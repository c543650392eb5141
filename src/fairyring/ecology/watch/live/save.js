// What can be taken from the page: a picture of the world as it is seen, and the numbers of its curves.

import { number } from "./course.js";

/** Save what an address holds under a name. */
export function download(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

/** The same for a content that is made here. */
export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  download(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The world as it is seen, with a line below that says what it is and what its colours stand for. */
export function picture(dish, seed) {
  const { canvas, frame, palette } = dish;
  const side = canvas.width;
  const size = Math.max(12, Math.round(side / 44));
  const made = document.createElement("canvas");
  made.width = side;
  made.height = side + Math.round(2.4 * size);
  const pen = made.getContext("2d", { alpha: false });
  pen.fillStyle = "#0c1017";
  pen.fillRect(0, 0, made.width, made.height);
  pen.drawImage(canvas, 0, 0);
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  const middle = side + 1.2 * size;
  pen.fillStyle = "#e4e8ee";
  pen.fillText(`step ${number(frame.step)} · seed ${seed} · ${number(frame.population)} alive`, size, middle);
  const entries = [
    [palette.fed, "runs"],
    [palette.tumbling, "tumbles"],
    [palette.food, "food"],
    ...(frame.signal ? [[palette.signal, "signal"]] : []),
  ];
  let at = side;
  for (const [colour, word] of entries.reverse()) {
    at -= pen.measureText(word).width + size;
    pen.fillStyle = "#e4e8ee";
    pen.fillText(word, at, middle);
    at -= 1.2 * size;
    pen.fillStyle = `rgb(${colour.join(" ")})`;
    pen.fillRect(at, middle - 0.4 * size, 0.8 * size, 0.8 * size);
  }
  return new Promise((done) => made.toBlob(done, "image/png"));
}

/** The points of the curves, one a line; births, deaths and immigrants since the beginning. */
export function numbers(course, signal) {
  const names = ["step", "population", "food", "signal", "births", "deaths", "immigrants"];
  const keep = names.map((_, i) => i).filter((i) => signal || names[i] !== "signal");
  const points = course.points.at(-1) === course.now || !course.now ? course.points : [...course.points, course.now];
  const lines = [names, ...points].map((row) => keep.map((i) => row[i]).join(","));
  return new Blob([`${lines.join("\n")}\n`], { type: "text/csv" });
}
