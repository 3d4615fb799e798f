// The mel stage in JavaScript: in a browser as well as in Node, for WebAssembly and TextDecoder are all that is used.

// conf/frontend/mel64.yaml. Names and codes are those of melspec_config in melspec.h.
export const MEL64 = {
  f_min: 150, f_max: 15000, amin: 1e-8, ref: 1, top_db: 0, db_offset: 40, db_scale: 0.05,
  abi_version: 1, sample_rate: 32000, n_fft: 1024, win_length: 1024, hop_length: 500, window: 0, center: 0,
  pad_mode: 0, power: 2, n_mels: 64, mel_scale: 0, mel_norm: 1, ref_mode: 0, has_top_db: 0,
};
const DOUBLES = ["f_min", "f_max", "amin", "ref", "top_db", "db_offset", "db_scale"];
const INTEGERS = ["abi_version", "sample_rate", "n_fft", "win_length", "hop_length", "window", "center", "pad_mode",
  "power", "n_mels", "mel_scale", "mel_norm", "ref_mode", "has_top_db"];

export class Melspec {
  // wasm: the bytes of melspec.wasm, an ArrayBuffer or a typed array.
  static async load(wasm) {
    const mel = new Melspec();
    const { instance } = await WebAssembly.instantiate(wasm, {}); // no imports
    mel.exports = instance.exports; // the functions of melspec.h
    if (mel.exports.melspec_abi_version() !== 1) throw new Error("another ABI version");
    return mel;
  }

  // A count as it is; a code below zero as an error, with the module's own sentence.
  check(code) {
    if (code >= 0) return code;
    const text = this.view(this.exports.melspec_message(code) >>> 0);
    throw new Error(`${new TextDecoder().decode(text.subarray(0, text.indexOf(0)))} (${code})`);
  }

  // Address of so many bytes, for melspec_free in the end. JavaScript sees an i32 signed; an address is not.
  allocate(bytes) {
    const address = this.exports.melspec_alloc(bytes) >>> 0;
    if (address === 0) throw new Error(`no room for ${bytes} bytes`);
    return address;
  }

  // The module's memory as bytes. It may grow in any call that allocates, and views made before are then empty.
  view(address, bytes) {
    return new Uint8Array(this.exports.memory.buffer, address, bytes);
  }

  // What melspec_create or melspec_stream_create makes: call(pointer) has its address written to the pointer.
  create(call) {
    const pointer = this.allocate(4);
    try {
      this.check(call(pointer));
      return new DataView(this.exports.memory.buffer).getUint32(pointer, true);
    } finally {
      this.exports.melspec_free(pointer);
    }
  }

  // A plan for such constants, once for many runs and streams; for melspec_destroy in the end.
  plan(constants) {
    const config = this.allocate(this.exports.melspec_config_size());
    const view = new DataView(this.exports.memory.buffer, config);
    DOUBLES.forEach((name, i) => view.setFloat64(8 * i, constants[name], true));
    INTEGERS.forEach((name, i) => view.setInt32(56 + 4 * i, constants[name], true));
    try {
      return this.create((pointer) => this.exports.melspec_create(config, pointer));
    } finally {
      this.exports.melspec_free(config);
    }
  }
}
