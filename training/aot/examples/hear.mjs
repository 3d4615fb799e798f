// A bundle in one module, in JavaScript: node hear.mjs hear.wasm samples.f32
//
// Reads mono float32 samples at the module's rate and prints, for each whole window, its start in seconds and the code
// and probability of each species heard. In a browser, fetch the module in place of reading it; the rest is the same.
import { readFileSync } from "node:fs";

const [modulePath, samplesPath] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(modulePath), {}); // no imports
const call = (name, ...rest) => instance.exports[`labous_hear${name}`](...rest);
const floats = (address, count) => new Float32Array(instance.exports.memory.buffer, address, count);
const text = (address) => {
  const bytes = new Uint8Array(instance.exports.memory.buffer, address);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
};
const check = (code) => {
  if (code !== 0) throw new Error(`${text(call("_message", code))} (${code})`);
};

if (call("_abi_version") !== 1) throw new Error("another ABI version");
check(call("_open")); // the memory grows here, and never again
const [size, labels] = [call("_window_samples"), call("_labels")];
const [room, logits] = [floats(call("_samples"), size), floats(call("_logits"), labels)];
const samples = new Float32Array(new Uint8Array(readFileSync(samplesPath)).buffer);
for (let start = 0; start + size <= samples.length; start += size) {
  room.set(samples.subarray(start, start + size));
  check(call(""));
  logits.forEach((logit, i) => {
    const score = 1 / (1 + Math.exp(-(call("_scale", i) * logit + call("_offset", i))));
    if (score >= call("_threshold", i))
      console.log(`${start / call("_sample_rate")} ${text(call("_label", i, 0))} ${score.toFixed(5)}`);
  });
}
