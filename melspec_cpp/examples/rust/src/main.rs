//! The mel stage in a Rust program: cargo run -- melspec.wasm samples.f32 out.f32
//!
//! Reads mono float32 samples at 32 kHz, writes what a model sees as float32, row-major [n_mels, frames], with the
//! constants of conf/frontend/mel64.yaml, and prints n_mels and frames. Both files are little-endian.
use std::{env, ffi::CStr, fs};
use wasmtime::{Config, Engine, Error, Instance, Module, Result, Store, StoreLimits, StoreLimitsBuilder, WasmParams};

const MEMORY_LIMIT: usize = 1 << 28; // bytes: 30 minutes in one array. No address is negative as an i32
const FUEL: u64 = 100_000_000_000; // instructions for each call; 5 s of sound take 30 million

struct Mel {
    store: Store<StoreLimits>,
    instance: Instance,
}

impl Mel {
    /// The module, in a store that bounds its memory and its time. A bound on time makes it a quarter slower.
    fn load(path: &str) -> Result<Mel> {
        let engine = Engine::new(Config::new().consume_fuel(true))?;
        let mut store = Store::new(&engine, StoreLimitsBuilder::new().memory_size(MEMORY_LIMIT).build());
        store.limiter(|limits| limits);
        let instance = Instance::new(&mut store, &Module::from_file(&engine, path)?, &[])?; // no imports
        Ok(Mel { store, instance })
    }

    /// Calls a function that returns a count, an address, or a code below zero, for which the module has a sentence.
    fn call(&mut self, name: &str, arguments: impl WasmParams) -> Result<usize> {
        self.store.set_fuel(FUEL)?; // without any left the call traps
        let function = self.instance.get_typed_func::<_, i32>(&mut self.store, name)?;
        let result = function.call(&mut self.store, arguments)?;
        if result >= 0 {
            return Ok(result as usize);
        }
        let function = self.instance.get_typed_func::<i32, u32>(&mut self.store, "melspec_message")?;
        let address = function.call(&mut self.store, result)? as usize;
        let message = CStr::from_bytes_until_nul(&self.memory()[address..])?;
        Err(Error::msg(format!("{name}: {} ({result})", message.to_string_lossy())))
    }

    fn allocate(&mut self, bytes: usize) -> Result<usize> {
        let address = self.call("melspec_alloc", i32::try_from(bytes)?)?;
        if address == 0 { Err(Error::msg(format!("no room for {bytes} bytes"))) } else { Ok(address) }
    }

    /// The module's memory, where an address is an index. It may move in any call that allocates.
    fn memory(&mut self) -> &mut [u8] {
        self.instance.get_memory(&mut self.store, "memory").expect("melspec exports it").data_mut(&mut self.store)
    }
}

fn main() -> Result<()> {
    let paths: Vec<String> = env::args().skip(1).collect();
    let [module, samples, out] = &paths[..] else { return Err(Error::msg("pass three paths")) };
    let mut mel = Mel::load(module)?;
    assert_eq!(mel.call("melspec_abi_version", ())?, 1, "another ABI version");

    // 1. The configuration: 7 doubles, 14 integers, as in melspec.h; behind it, room for the plan's address.
    //             f_min  f_max    amin  ref  top_db  db_offset  db_scale
    let doubles = [150.0, 15000.0, 1e-8, 1.0, 0.0, 40.0, 0.05].map(f64::to_le_bytes).concat();
    //              abi  rate  n_fft  win  hop  window  center  pad  power  n_mels  scale  norm  ref_mode  has_top_db
    let integers = [1, 32000, 1024, 1024, 500, 0, 0, 0, 2, 64, 0, 1, 0, 0].map(i32::to_le_bytes).concat();
    let config = mel.allocate(112 + 4)?;
    let pointer = config + 112;
    mel.memory()[config..pointer].copy_from_slice(&[doubles, integers].concat());

    // 2. The plan, once for many runs.
    mel.call("melspec_create", (config as u32, pointer as u32))?;
    let plan = u32::from_le_bytes(mel.memory()[pointer..pointer + 4].try_into()?);

    // 3. Samples in, what a model sees (2: scaled) out. All memory goes with the store; a longer program frees it.
    let pcm = fs::read(samples)?;
    let count = (pcm.len() / 4) as i32;
    let bytes = mel.call("melspec_bytes", (plan, count))?;
    let (input, output) = (mel.allocate(pcm.len())?, mel.allocate(bytes)?);
    mel.memory()[input..input + pcm.len()].copy_from_slice(&pcm);
    let frames = mel.call("melspec_run", (plan, 2, input as u32, count, output as u32, bytes as i32 / 4))?;
    fs::write(out, &mel.memory()[output..output + bytes])?;
    println!("{} {frames}", bytes / 4 / frames);
    Ok(())
}
