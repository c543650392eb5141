// Reads a frame: the other side of frames.py, which describes the bytes.

const VERSION = 1;
const HEADER = 68;

/** One frame; fields stay quantised: a byte q stands for most * (q / 255)^2. Throws if it is not of this version. */
export function decode(buffer) {
  const head = new DataView(buffer);
  if (buffer.byteLength < HEADER || head.getUint32(0, false) !== 0x46525900 + VERSION) {
    throw new Error("a frame of another version: reload the page");
  }
  const n = head.getUint32(12, true);
  const width = head.getUint16(16, true);
  const has = head.getUint8(18);
  const rows = head.getUint8(20);
  const columns = head.getUint8(21);
  let at = HEADER;
  const take = (Kind, count) => {
    const part = new Kind(buffer, at, count);
    at += part.byteLength;
    return part;
  };
  const mean = take(Float32Array, rows * columns);
  const spread = take(Float32Array, rows * columns);
  const uid = take(Uint32Array, n);
  const x = take(Uint16Array, n);
  const y = take(Uint16Array, n);
  const direction = take(Uint8Array, n);
  const energy = take(Uint8Array, n);
  const tumbling = take(Uint8Array, (n + 7) >> 3);
  const food = take(Uint8Array, width * width);
  const signal = has & 1 ? take(Uint8Array, width * width) : null;
  const names = new TextDecoder().decode(take(Uint8Array, head.getUint16(22, true))).split("\n");
  return {
    step: head.getUint32(4, true) + head.getUint32(8, true) * 2 ** 32,
    n,
    width,
    uid,
    x,
    y,
    direction,
    energy,
    tumbling,
    food,
    signal,
    mostFood: head.getFloat32(24, true),
    mostSignal: head.getFloat32(28, true),
    mostEnergy: head.getFloat32(32, true),
    population: head.getUint32(36, true),
    births: head.getUint32(40, true),
    deaths: head.getUint32(44, true),
    immigrants: head.getUint32(48, true),
    foodInAll: head.getFloat64(52, true),
    signalInAll: head.getFloat64(60, true),
    mind: {
      kind: has & 2 ? "rewards" : "table",
      rows: names.slice(0, rows),
      columns: names.slice(rows, rows + columns),
      mean,
      spread,
    },
  };
}

/** Whether bacterium i tumbled in its last step. */
export function tumbles(frame, i) {
  return (frame.tumbling[i >> 3] >> (i & 7)) & 1;
}
