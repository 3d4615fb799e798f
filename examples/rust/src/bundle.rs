//! A bundle's folder, read and proved: docs/bundle.md.
use crate::text;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::HashMap, fs, path::Path};

/// A species: the last four fields of a line before its score, and what makes and bounds its score.
pub struct Label {
    pub json: String,
    pub scale: f32,
    pub offset: f32,
    pub threshold: f32,
}

pub struct Bundle {
    files: HashMap<String, Vec<u8>>,
    pub manifest: Value,
    pub labels: Vec<Label>,
    pub sample_rate: u32,
    pub window_samples: usize,
    pub n_fft: usize,
    pub n_mels: usize,
    pub n_frames: usize,
    pub neighbor_weight: f64,
}

impl Bundle {
    pub fn read(folder: &str) -> Result<Bundle> {
        let files = proved(Path::new(folder)).with_context(|| format!("bundle {folder:?}"))?;
        let manifest: Value = serde_json::from_slice(files.get("manifest.json").context("no manifest.json")?)?;
        let version = &manifest["schema_version"];
        ensure!(*version == 2, "bundle {folder:?} has the schema version {version}, and 2 is known here");
        let number = |value: &Value| value.as_f64().context("a number is missing in manifest.json");
        let (frontend, detection) = (&manifest["frontend"], &manifest["detection"]);
        let table = files.get(manifest["labels"].as_str().context("no labels")?).context("no table of labels")?;
        let columns = ["ebird_code", "scientific_name", "common_name", "french_name"];
        let mut labels = vec![];
        for row in csv::Reader::from_reader(&table[..]).records() {
            let row = row?;
            let fields = columns.iter().zip(&row).map(|(name, text)| format!("\"{name}\": {}", text::json(text)));
            let calibration = &detection["calibration"][&row[0]];
            labels.push(Label {
                json: fields.collect::<Vec<_>>().join(", "),
                scale: number(&calibration["scale"])? as f32,
                offset: number(&calibration["offset"])? as f32,
                threshold: number(&detection["thresholds"][&row[0]])? as f32,
            });
        }
        let sample_rate = number(&frontend["sample_rate"])?;
        if manifest["dataset"]["synthetic"] == true {
            eprintln!("Bundle {folder:?} was trained on synthetic sound: its results say nothing about real birds.");
        }
        Ok(Bundle {
            labels,
            sample_rate: sample_rate as u32,
            window_samples: (sample_rate * number(&frontend["window_seconds"])?).round_ties_even() as usize,
            n_fft: number(&frontend["n_fft"])? as usize,
            n_mels: number(&frontend["n_mels"])? as usize,
            n_frames: number(&manifest["models"]["float32"]["input"]["shape"][2])? as usize,
            neighbor_weight: number(&detection["smoothing"]["neighbor_weight"])?,
            files,
            manifest,
        })
    }

    pub fn file(&self, name: &str) -> Result<&[u8]> {
        self.files.get(name).map(Vec::as_slice).with_context(|| format!("{name} is not listed in SHA256SUMS"))
    }
}

/// Each file that SHA256SUMS lists, by its path in the bundle; none is used before all are proved.
fn proved(folder: &Path) -> Result<HashMap<String, Vec<u8>>> {
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).context("SHA256SUMS cannot be read")?;
    let mut files = HashMap::new();
    for line in sums.lines() {
        let (digest, name) = line.split_once("  ").context("SHA256SUMS is damaged")?;
        let inside = !name.contains(['\\', ':']) && name.split('/').all(|part| !["", ".", ".."].contains(&part));
        ensure!(inside, "SHA256SUMS lists the path {name:?}, which leaves the bundle");
        let path = folder.join(name);
        ensure!(!path.is_symlink(), "{name} is a link");
        let bytes = fs::read(path).with_context(|| format!("{name} cannot be read"))?;
        ensure!(format!("{:x}", Sha256::digest(&bytes)) == digest, "{name} does not match SHA256SUMS");
        files.insert(name.into(), bytes);
    }
    Ok(files)
}
