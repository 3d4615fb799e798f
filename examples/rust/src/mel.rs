//! The mel stage: a bundle's melspec.wasm in Wasmtime. melspec_cpp/examples/rust bounds its memory and its time as well.
use crate::bundle::Bundle;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::ffi::CStr;
use wasmtime::{Engine, Instance, Module, Store, WasmParams};

const SCALED: i32 = 2; // what a model sees

pub struct Mel {
    store: Store<()>,
    instance: Instance,
    plan: u32,
    input: u32,
    samples: i32,
    output: u32,
    floats: i32,
}

impl Mel {
    /// The module with a plan for the bundle's front end, and room for a window.
    pub fn open(bundle: &Bundle) -> Result<Mel> {
        let engine = Engine::default();
        let module = Module::new(&engine, bundle.file(bundle.manifest["mel"]["file"].as_str().context("no mel")?)?)?;
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[])?; // no imports
        let samples = bundle.window_samples as i32;
        let mut mel = Mel { store, instance, plan: 0, input: 0, samples, output: 0, floats: 0 };
        ensure!(
            mel.call("melspec_abi_version", ())? == 1 && mel.call("melspec_config_size", ())? == 112,
            "melspec.wasm has another version of its interface"
        );
        let config = mel.allocate(112 + 4)?;
        let pointer = config + 112;
        mel.memory()[config as usize..][..112].copy_from_slice(&packed(&bundle.manifest["frontend"])?);
        mel.call("melspec_create", (config, pointer))?;
        mel.plan = u32::from_le_bytes(mel.memory()[pointer as usize..][..4].try_into()?);
        let bytes = mel.call("melspec_bytes", (mel.plan, samples))?;
        mel.floats = bytes / 4;
        mel.input = mel.allocate(4 * samples)?;
        mel.output = mel.allocate(bytes)?;
        Ok(mel)
    }

    /// Of a window, row-major [n_mels, n_frames].
    pub fn run(&mut self, window: &[f32]) -> Result<Vec<f32>> {
        let bytes: Vec<u8> = window.iter().flat_map(|v| v.to_le_bytes()).collect();
        let (input, output) = (self.input as usize, self.output as usize);
        self.memory()[input..][..bytes.len()].copy_from_slice(&bytes);
        self.call("melspec_run", (self.plan, SCALED, self.input, self.samples, self.output, self.floats))?;
        let bytes = self.floats as usize * 4;
        let found = self.memory()[output..][..bytes].chunks_exact(4);
        Ok(found.map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]])).collect())
    }

    /// Calls a function that gives a count, or a code below zero, for which the module has a sentence.
    fn call(&mut self, name: &str, arguments: impl WasmParams) -> Result<i32> {
        let result = self.instance.get_typed_func::<_, i32>(&mut self.store, name)?.call(&mut self.store, arguments)?;
        if result >= 0 {
            return Ok(result);
        }
        let message = self.instance.get_typed_func::<i32, u32>(&mut self.store, "melspec_message")?;
        let address = message.call(&mut self.store, result)? as usize;
        let sentence = CStr::from_bytes_until_nul(&self.memory()[address..])?.to_string_lossy().into_owned();
        bail!("{name}: {sentence} ({result})")
    }

    fn allocate(&mut self, bytes: i32) -> Result<u32> {
        let address = self.instance.get_typed_func::<i32, u32>(&mut self.store, "melspec_alloc")?;
        let address = address.call(&mut self.store, bytes)?;
        ensure!(address != 0, "there is no room for {bytes} bytes in melspec.wasm");
        Ok(address)
    }

    /// The module's memory, where an address is an index. It may move in any call that allocates.
    fn memory(&mut self) -> &mut [u8] {
        self.instance.get_memory(&mut self.store, "memory").expect("melspec exports it").data_mut(&mut self.store)
    }
}

/// melspec_config of melspec.h: seven doubles, fourteen integers.
fn packed(frontend: &Value) -> Result<Vec<u8>> {
    let double = |name: &str| frontend[name].as_f64().with_context(|| format!("frontend.{name} is no number"));
    let whole = |name: &str| double(name).map(|value| value as i32);
    // a text's place among those that the module knows
    let choice = |name: &str, known: &[Value]| {
        let found = known.iter().position(|value| *value == frontend[name]).map(|place| place as i32);
        found.with_context(|| format!("frontend.{name} is not known here"))
    };
    let (largest, limited) = (frontend["ref"] == "max", !frontend["top_db"].is_null());
    let doubles = [
        double("f_min")?,
        double("f_max")?,
        double("amin")?,
        if largest { 0.0 } else { double("ref")? },
        if limited { double("top_db")? } else { 0.0 },
        double("db_offset")?,
        double("db_scale")?,
    ];
    let integers = [
        1, // the version
        whole("sample_rate")?,
        whole("n_fft")?,
        whole("win_length")?,
        whole("hop_length")?,
        choice("window", &["hann".into()])?,
        choice("center", &[false.into(), true.into()])?,
        choice("pad_mode", &["constant".into(), "reflect".into()])?,
        whole("power")?,
        whole("n_mels")?,
        choice("mel_scale", &["slaney".into(), "htk".into()])?,
        choice("mel_norm", &[Value::Null, "slaney".into()])?,
        largest.into(),
        limited.into(),
    ];
    Ok([doubles.map(f64::to_le_bytes).concat(), integers.map(i32::to_le_bytes).concat()].concat())
}
