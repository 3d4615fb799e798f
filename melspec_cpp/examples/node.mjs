// The mel stage in Node: node node.mjs melspec.wasm samples.f32 out.f32
//
// Reads mono float32 samples at 32 kHz, writes decibels as float32, row-major [n_mels, frames], with the constants of
// conf/frontend/mel64.yaml, and prints n_mels and frames.
import { readFileSync, writeFileSync } from "node:fs";
import { MEL64, Melspec } from "./melspec.mjs";

const [modulePath, samplesPath, outPath] = process.argv.slice(2);
const mel = await Melspec.load(readFileSync(modulePath));
const plan = mel.plan(MEL64);

const samples = readFileSync(samplesPath);
const count = samples.length / 4;
const bytes = mel.check(mel.exports.melspec_bytes(plan, count));
const input = mel.allocate(samples.length);
const output = mel.allocate(bytes);
mel.view(input).set(samples);
const DECIBELS = 1;
const frames = mel.check(mel.exports.melspec_run(plan, DECIBELS, input, count, output, bytes / 4));
writeFileSync(outPath, mel.view(output, bytes));
console.log(MEL64.n_mels, frames);

mel.exports.melspec_free(input);
mel.exports.melspec_free(output);
mel.exports.melspec_destroy(plan);
