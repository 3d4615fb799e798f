// A bundle in Node, on its golden windows: node golden.mjs BUNDLE model.wasm
//
// From samples to logits with melspec.wasm and the model as WebAssembly. Prints how far mel and logits lie from the
// golden ones at most, and exits with 1 where that is over the bundle's tolerance.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Bundle } from "./bundle.mjs";

const [folder, modelPath] = process.argv.slice(2);
const bundle = await Bundle.open((name) => readFile(join(folder, name)), await readFile(modelPath));
const { differences, tolerance } = await bundle.golden();
for (const [name, worst] of Object.entries(differences)) {
  const allowed = tolerance[name].toExponential(1);
  console.log(`${name}: at most ${worst.toExponential(1)} from the golden windows, ${allowed} is allowed`);
  if (!(worst <= tolerance[name])) process.exitCode = 1; // a NaN is refused, too
}
