// Overlapping windows of an endless signal in Node: node node-stream.mjs melspec.wasm samples.f32 out.f32 [chunk]
//
// Reads mono float32 samples at 32 kHz, as many at a time as chunk says (441), and writes what a model sees of each
// window of 5 s, one every second: float32 [windows, n_mels, frames], with the constants of conf/frontend/mel64.yaml.
// Prints where each window begins, in seconds, as soon as it is there.
import { createReadStream, openSync, readFileSync, writeSync } from "node:fs";
import { MEL64, Melspec } from "./melspec.mjs";

const [modulePath, samplesPath, outPath, chunk = 441] = process.argv.slice(2);
const SCALED = 2;
const WINDOW = 5 * MEL64.sample_rate;
const STEP = MEL64.sample_rate;

const mel = await Melspec.load(readFileSync(modulePath));
const { melspec_stream_create, melspec_stream_push, melspec_stream_pull, melspec_stream_window } = mel.exports;
const plan = mel.plan(MEL64);
const stream = mel.create((pointer) => melspec_stream_create(plan, SCALED, WINDOW, STEP, pointer));
const window = melspec_stream_window(stream) >>> 0; // one address for the stream's whole life
const input = mel.allocate(4 * chunk);
const out = openSync(outPath, "w");

let windows = 0;
for await (const bytes of createReadStream(samplesPath, { highWaterMark: 4 * chunk })) {
  const count = Math.floor(bytes.length / 4);
  let taken = 0;
  while (taken < count) {
    mel.view(input).set(bytes.subarray(4 * taken));
    taken += mel.check(melspec_stream_push(stream, input, count - taken));
    let frames; // a push takes fewer samples than there are only where windows wait: pull them all
    while ((frames = mel.check(melspec_stream_pull(stream))) > 0) {
      writeSync(out, mel.view(window, 4 * MEL64.n_mels * frames));
      console.log((windows++ * STEP) / MEL64.sample_rate);
    }
  }
}

mel.exports.melspec_free(input);
mel.exports.melspec_stream_destroy(stream); // before its plan
mel.exports.melspec_destroy(plan);
