// Arrays of a .npz file, in a browser or in Node: a zip of .npy files, of which int16 and float32 are read.

// bytes: a Uint8Array. Gives { name: { shape, values } }, values a typed array, row-major.
export async function readNpz(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22; // of the zip's directory, behind which there may be a comment
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("not a .npz file");
  const arrays = {};
  let entry = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [name, extra, comment] = [28, 30, 32].map((at) => view.getUint16(entry + at, true));
    const title = new TextDecoder().decode(bytes.subarray(entry + 46, entry + 46 + name));
    const local = view.getUint32(entry + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const stored = bytes.subarray(start, start + view.getUint32(entry + 20, true));
    const method = view.getUint16(entry + 10, true);
    if (method !== 0 && method !== 8) throw new Error(`${title} is compressed in a way that is not known here`);
    arrays[title.replace(/\.npy$/, "")] = readNpy(method === 0 ? new Uint8Array(stored) : await inflated(stored), title);
    entry += 46 + name + extra + comment;
  }
  return arrays;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function readNpy(bytes, name) {
  const view = new DataView(bytes.buffer);
  const [length, start] = bytes[6] === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const Values = { "<i2": Int16Array, "<f4": Float32Array }[/'descr': '(...)'/.exec(header)?.[1]];
  if (Values === undefined || !header.includes("'fortran_order': False"))
    throw new Error(`${name} is no row-major array of int16 or float32`);
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((n) => n.trim()).map(Number);
  return { shape, values: new Values(bytes.buffer.slice(start + length)) };
}
