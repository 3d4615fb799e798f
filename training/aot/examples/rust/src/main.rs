//! A bundle in one module, in Rust: cargo run --release -- hear.wasm samples.f32
//!
//! Reads mono float32 samples at the module's rate and prints, for each whole window, its start in seconds and the code
//! and probability of each species heard.
use std::{env, ffi::CStr, fs};
use wasmtime::{Engine, Error, Instance, Module, Result, Store, WasmParams, WasmResults};

struct Hear {
    store: Store<()>,
    instance: Instance,
}

impl Hear {
    fn call<T: WasmResults>(&mut self, name: &str, arguments: impl WasmParams) -> Result<T> {
        self.instance.get_typed_func(&mut self.store, &format!("labous_hear{name}"))?.call(&mut self.store, arguments)
    }

    fn memory(&mut self) -> &mut [u8] {
        self.instance.get_memory(&mut self.store, "memory").expect("it is exported").data_mut(&mut self.store)
    }

    fn text(&mut self, address: u32) -> Result<String> {
        Ok(CStr::from_bytes_until_nul(&self.memory()[address as usize..])?.to_str()?.into())
    }

    fn check(&mut self, code: i32) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let address = self.call("_message", code)?;
        Err(Error::msg(format!("{} ({code})", self.text(address)?)))
    }
}

fn main() -> Result<()> {
    let paths: Vec<String> = env::args().skip(1).collect();
    let [module, samples] = &paths[..] else { return Err(Error::msg("pass two paths")) };
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &Module::from_file(&engine, module)?, &[])?; // no imports
    let mut hear = Hear { store, instance };
    assert_eq!(hear.call::<i32>("_abi_version", ())?, 1, "another ABI version");
    let code = hear.call("_open", ())?;
    hear.check(code)?;
    let (size, labels, rate): (i32, i32, i32) =
        (hear.call("_window_samples", ())?, hear.call("_labels", ())?, hear.call("_sample_rate", ())?);
    let (room, logits): (u32, u32) = (hear.call("_samples", ())?, hear.call("_logits", ())?);
    for (number, window) in fs::read(samples)?.chunks_exact(4 * size as usize).enumerate() {
        hear.memory()[room as usize..][..window.len()].copy_from_slice(window);
        let code = hear.call("", ())?;
        hear.check(code)?;
        for i in 0..labels {
            let logit = f32::from_le_bytes(hear.memory()[logits as usize + 4 * i as usize..][..4].try_into()?);
            let (scale, offset): (f32, f32) = (hear.call("_scale", i)?, hear.call("_offset", i)?);
            let score = 1.0 / (1.0 + (-(scale * logit + offset)).exp());
            if score >= hear.call("_threshold", i)? {
                let name = hear.call("_label", (i, 0))?;
                println!("{} {} {score:.5}", number as f64 * size as f64 / rate as f64, hear.text(name)?);
            }
        }
    }
    Ok(())
}
