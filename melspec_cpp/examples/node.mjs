// The mel stage in another host: node node.mjs melspec.wasm samples.f32 out.f32
//
// Reads mono float32 samples at 32 kHz, writes decibels as float32, row-major [n_mels, frames], with the constants of
// conf/frontend/mel64.yaml, and prints n_mels and frames. Nothing but WebAssembly itself is used of the host.
import { readFileSync, writeFileSync } from "node:fs";

const [modulePath, samplesPath, outPath] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(modulePath), {}); // no imports
const mel = instance.exports;

function text(address) {
  const bytes = new Uint8Array(mel.memory.buffer, address);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

function check(code) {
  if (code < 0) throw new Error(`${text(mel.melspec_message(code))} (${code})`);
  return code;
}

function allocate(bytes) {
  const address = mel.melspec_alloc(bytes);
  if (address === 0) throw new Error("no memory");
  return address;
}

if (mel.melspec_abi_version() !== 1) throw new Error("another ABI version");

// 1. The configuration: 7 doubles, 14 integers, as in melspec.h; behind it, room for the plan's address.
const size = mel.melspec_config_size();
const config = allocate(size + 4);
const view = new DataView(mel.memory.buffer);
//               f_min  f_max  amin  ref  top_db  db_offset  db_scale
const doubles = [150.0, 15000.0, 1e-8, 1.0, 0.0, 40.0, 0.05];
doubles.forEach((value, i) => view.setFloat64(config + 8 * i, value, true));
//                abi   rate   n_fft  win  hop  window  center  pad  power  n_mels  scale  norm  ref_mode  has_top_db
const integers = [1, 32000, 1024, 1024, 500, 0, 0, 0, 2, 64, 0, 1, 0, 0];
integers.forEach((value, i) => view.setInt32(config + 56 + 4 * i, value, true));

// 2. The plan, once for many runs.
check(mel.melspec_create(config, config + size));
const plan = new DataView(mel.memory.buffer).getUint32(config + size, true);
mel.melspec_free(config);

// 3. Samples in, decibels out. Memory may have grown: views are made after the allocations.
const samples = readFileSync(samplesPath);
const count = samples.length / 4;
const bytes = check(mel.melspec_bytes(plan, count));
const input = allocate(samples.length);
const output = allocate(bytes);
new Uint8Array(mel.memory.buffer).set(samples, input);
const DECIBELS = 1;
const frames = check(mel.melspec_run(plan, DECIBELS, input, count, output, bytes / 4));
writeFileSync(outPath, new Uint8Array(mel.memory.buffer, output, bytes));
console.log(bytes / 4 / frames, frames);

// 4. What was allocated is given back.
mel.melspec_free(input);
mel.melspec_free(output);
mel.melspec_destroy(plan);
