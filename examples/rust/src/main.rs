//! What `labous analyze --format jsonl` prints, from Rust alone:
//!
//!     cargo run --release -- [--model NAME] [--overlap S] [--top-n N] [--min-score P] BUNDLE RECORDING.wav …
//!
//! NAME is onnx (the default), or float32 for the .tflite itself. docs/bundle.md, "From a recording to detections", says
//! what is done here; docs/engines.md what tract can run.
mod bundle;
mod mel;
mod model;
mod recording;
mod text;

use anyhow::{Context, Result, bail, ensure};
use bundle::Bundle;
use mel::Mel;
use model::Model;
use std::{
    env,
    io::{self, Write},
    process::{self, ExitCode},
    str::FromStr,
};

struct Options {
    model: String,
    overlap: f64,
    top_n: usize,
    min_score: Option<f32>,
    paths: Vec<String>,
}

fn value<T: FromStr>(option: &str, given: Option<String>, right: impl Fn(&T) -> bool) -> Result<T> {
    let value = given.as_deref().and_then(|text| text.parse().ok()).filter(right);
    value.with_context(|| format!("{option} cannot be {}", given.as_deref().unwrap_or("left empty")))
}

fn options(mut given: impl Iterator<Item = String>) -> Result<Options> {
    let mut told = Options { model: "onnx".into(), overlap: 0.0, top_n: 3, min_score: None, paths: vec![] };
    while let Some(word) = given.next() {
        match word.as_str() {
            "--model" => told.model = value(&word, given.next(), |_| true)?,
            "--overlap" => told.overlap = value(&word, given.next(), |s| *s >= 0.0)?,
            "--top-n" => told.top_n = value(&word, given.next(), |n| *n >= 1)?,
            "--min-score" => told.min_score = Some(value(&word, given.next(), |p| (0.0..=1.0).contains(p))?),
            _ if word.starts_with("--") => bail!("there is no option {word}"),
            _ => told.paths.push(word),
        }
    }
    ensure!(told.paths.len() > 1, "pass a bundle's folder and recordings");
    Ok(told)
}

/// Smoothed and calibrated: a window's probabilities from its logits and those of its neighbors.
fn probabilities(bundle: &Bundle, logits: &[Vec<f32>], window: usize) -> Vec<f32> {
    let side = bundle.neighbor_weight as f32;
    let own = (1.0 - 2.0 * bundle.neighbor_weight) as f32;
    let neighbors: Vec<_> = [window.wrapping_sub(1), window + 1].iter().filter_map(|&i| logits.get(i)).collect();
    let total = neighbors.iter().fold(own, |sum, _| sum + side);
    let calibrated = bundle.labels.iter().enumerate().map(|(i, label)| {
        let mixed = neighbors.iter().fold(own * logits[window][i], |sum, row| sum + side * row[i]) / total;
        f64::from(label.scale * mixed + label.offset)
    });
    calibrated.map(|logit| (1.0 / (1.0 + (-logit).exp())) as f32).collect()
}

fn analyze(bundle: &Bundle, mel: &mut Mel, model: &Model, path: &str, told: &Options) -> Result<()> {
    let (rate, size) = (bundle.sample_rate, bundle.window_samples);
    let shared = (told.overlap * f64::from(rate)).round_ties_even() as usize;
    ensure!(shared < size, "an overlap of {} s is not less than a window", told.overlap);
    let samples = recording::read(path, rate)?;
    let windows = recording::windows(samples.len(), size, size - shared, bundle.n_fft);
    let mut logits = vec![];
    for &(start, end) in &windows {
        let mut window = samples[start..end].to_vec();
        window.resize(size, 0.0);
        logits.push(model.run(&mel.run(&window)?)?);
    }
    let seconds = |at: usize| text::number(at as f64 / f64::from(rate));
    for (window, &(start, end)) in windows.iter().enumerate() {
        let scores = probabilities(bundle, &logits, window);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a])); // stable: of equals, the first label
        order.retain(|&i| scores[i] >= told.min_score.unwrap_or(bundle.labels[i].threshold));
        for &i in order.iter().take(told.top_n) {
            let line = format!(
                r#"{{"recording": {}, "start": {}, "end": {}, {}, "score": {}}}"#,
                text::json(&text::path(path)),
                seconds(start),
                seconds(end),
                bundle.labels[i].json,
                text::number(f64::from(scores[i])),
            );
            match writeln!(io::stdout(), "{line}") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0), // whoever reads has enough
                written => written?,
            }
        }
    }
    Ok(())
}

fn run() -> Result<bool> {
    let told = options(env::args().skip(1))?;
    let bundle = Bundle::read(&told.paths[0])?;
    let mut mel = Mel::open(&bundle)?;
    let model = Model::open(&bundle, &told.model)?;
    let mut well = true;
    for path in &told.paths[1..] {
        if let Err(error) = analyze(&bundle, &mut mel, &model, path, &told) {
            eprintln!("Recording {path:?}: {error:#}.");
            well = false;
        }
    }
    Ok(well)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}.");
            ExitCode::FAILURE
        }
    }
}
