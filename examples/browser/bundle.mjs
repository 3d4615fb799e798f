// A bundle in JavaScript, in a browser as well as in Node: melspec.wasm, and the model as WebAssembly of its own, made by
//
//     python -m training.aot BUNDLE --out FOLDER wasm
//
// docs/bundle.md, "From a recording to detections", says what is done here.
import { Melspec } from "../../melspec_cpp/examples/melspec.mjs";
import { readNpz } from "./npz.mjs";

const SCALED = 2; // what a model sees
const CODES = { hann: 0, constant: 0, reflect: 1, slaney: 0, htk: 1 }; // of melspec.h
const COLUMNS = ["ebird_code", "scientific_name", "common_name", "french_name"];

export class Bundle {
  // read: a function from a path in the bundle to a promise of its bytes (a Uint8Array); model: the bytes of model.wasm.
  // Only what is needed is read; each file is proved.
  static async open(read, model) {
    const bundle = new Bundle();
    const text = new TextDecoder().decode(await read("SHA256SUMS"));
    const sums = new Map(text.trimEnd().split("\n").map((line) => [line.slice(66), line.slice(0, 64)]));
    bundle.read = async (name) => {
      const bytes = await read(name);
      if (hex(await crypto.subtle.digest("SHA-256", bytes)) !== sums.get(name))
        throw new Error(`${name} does not match SHA256SUMS`);
      return bytes;
    };
    const json = async (name) => JSON.parse(new TextDecoder().decode(await bundle.read(name)));
    const manifest = (bundle.manifest = await json("manifest.json"));
    if (manifest.schema_version !== 2) throw new Error(`schema version ${manifest.schema_version} is not known here`);
    bundle.labels = table(new TextDecoder().decode(await bundle.read(manifest.labels)));
    bundle.size = Math.round(manifest.frontend.window_seconds * manifest.frontend.sample_rate); // samples of a window
    await bundle.openMel(await bundle.read(manifest.mel.file));
    await bundle.openModel(model, sums.get(manifest.models.float32.file));
    return bundle;
  }

  async openMel(wasm) {
    const { frontend } = this.manifest;
    const largest = frontend.ref === "max", limited = frontend.top_db !== null;
    const coded = Object.entries(frontend).map(([name, value]) => [name, CODES[value] ?? value]);
    const mel = (this.melspec = await Melspec.load(wasm));
    this.plan = mel.plan({
      ...Object.fromEntries(coded), abi_version: 1, mel_norm: Number(frontend.mel_norm === "slaney"),
      ref: largest ? 0 : frontend.ref, ref_mode: Number(largest),
      top_db: limited ? frontend.top_db : 0, has_top_db: Number(limited),
    });
    this.bytes = mel.check(mel.exports.melspec_bytes(this.plan, this.size));
    this.input = mel.allocate(4 * this.size);
    this.output = mel.allocate(this.bytes);
  }

  // training/aot/include/labous_model.h
  async openModel(wasm, source) {
    const { exports } = (await WebAssembly.instantiate(wasm, {})).instance; // no imports
    const made = new TextDecoder().decode(new Uint8Array(exports.memory.buffer, exports.labous_model_source(), 64));
    if (exports.labous_model_abi_version() !== 1) throw new Error("model.wasm has another version of its interface");
    if (made !== source) throw new Error("model.wasm was not made from this bundle's model");
    const beyond = (address, bytes) => Math.ceil((address + bytes) / 64) * 64;
    const [inputs, outputs] = [exports.labous_model_inputs(), exports.labous_model_outputs()];
    const arena = exports.labous_model_memory();
    const input = beyond(arena, exports.labous_model_arena_bytes()), output = beyond(input, 4 * inputs);
    this.model = {
      input: new Float32Array(exports.memory.buffer, input, inputs), // this memory never grows
      output: new Float32Array(exports.memory.buffer, output, outputs),
      run: () => exports.labous_model_run(input, output, arena),
    };
  }

  // A window's samples, float32 [size], to what the model sees: float32, row-major [n_mels, n_frames].
  mel(samples) {
    const { melspec: mel, bytes } = this;
    new Float32Array(mel.exports.memory.buffer, this.input, this.size).set(samples);
    mel.check(mel.exports.melspec_run(this.plan, SCALED, this.input, this.size, this.output, bytes / 4));
    return new Float32Array(mel.view(this.output, bytes).slice().buffer);
  }

  logits(mel) {
    this.model.input.set(mel);
    if (this.model.run() !== 0) throw new Error("the model refuses its memory");
    return this.model.output.slice();
  }

  // Mono samples at the front end's rate to detections as labous analyze has them.
  detect(samples, { overlap = 0, topN = 3, minScore } = {}) {
    const { frontend, detection } = this.manifest, { size } = this, rate = frontend.sample_rate;
    const step = size - Math.round(overlap * rate);
    if (!(overlap >= 0 && step >= 1)) throw new Error(`an overlap of ${overlap} s is not at least 0 and below a window`);
    if (!samples.length) return [];
    const windows = [];
    for (let start = 0; start + size <= samples.length; start += step) windows.push([start, start + size]);
    if (samples.length < size) windows.push([0, samples.length]);
    else if (samples.length - windows.at(-1)[1] >= frontend.n_fft) windows.push([samples.length - size, samples.length]);
    const logits = windows.map(([start, end]) => {
      const window = new Float32Array(size); // the last one may be shorter
      window.set(samples.subarray(start, end));
      return this.logits(this.mel(window));
    });
    return windows.flatMap(([start, end], i) => {
      const scored = this.labels.map((label, k) => ({
        start: start / rate, end: end / rate, ...label, score: this.score(label.ebird_code, k, logits, i),
      }));
      const heard = scored.filter((d) => d.score >= Math.fround(minScore ?? detection.thresholds[d.ebird_code]));
      return heard.sort((a, b) => b.score - a.score).slice(0, topN);
    });
  }

  // A label's probability in window i, smoothed and calibrated.
  score(code, label, logits, i) {
    const { calibration, smoothing } = this.manifest.detection, side = smoothing.neighbor_weight;
    const neighbors = [logits[i - 1], logits[i + 1]].filter((row) => row !== undefined);
    const sum = neighbors.reduce((sum, row) => sum + side * row[label], (1 - 2 * side) * logits[i][label]);
    const { scale, offset } = calibration[code];
    return Math.fround(1 / (1 + Math.exp(-((scale * sum) / (1 - 2 * side + side * neighbors.length) + offset))));
  }

  // The largest differences from the golden windows, { mel, float32 }, and what is allowed, { mel, float32 }.
  async golden() {
    const { file, tolerance } = this.manifest.golden;
    const arrays = await readNpz(await this.read(file));
    const differences = { mel: 0, float32: 0 };
    const compare = (name, found, array, i) => {
      const right = array.values.subarray(i * found.length, (i + 1) * found.length);
      found.forEach((value, k) => (differences[name] = Math.max(differences[name], Math.abs(value - right[k]))));
    };
    for (let i = 0; i < arrays.samples.shape[0]; i++) {
      const whole = arrays.samples.values.subarray(i * this.size, (i + 1) * this.size);
      const mel = this.mel(Float32Array.from(whole, (sample) => sample / 32768));
      compare("mel", mel, arrays.mel, i);
      compare("float32", this.logits(mel), arrays.logits_float32, i);
    }
    return { differences, tolerance };
  }
}

const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

// labels.csv: fields may be in double quotes, with quotes doubled.
function table(text) {
  const rows = text.trimEnd().split("\n").map((line) =>
    [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(([, quoted, bare]) => quoted?.replaceAll('""', '"') ?? bare),
  );
  if (rows.shift().join() !== COLUMNS.join()) throw new Error("labels.csv has other columns");
  return rows.map((row) => Object.fromEntries(COLUMNS.map((name, i) => [name, row[i]])));
}
