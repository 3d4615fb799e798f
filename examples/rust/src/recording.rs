//! A WAV file as samples, and its windows.
use anyhow::{Context, Result, ensure};
use hound::{SampleFormat, WavReader};

/// Mono samples of the whole file, or why it cannot be used.
pub fn read(path: &str, rate: u32) -> Result<Vec<f32>> {
    let reader = WavReader::open(path).context("it cannot be read as WAV")?;
    let spec = reader.spec();
    ensure!(
        spec.sample_rate == rate,
        "it has {} Hz, and the model hears {rate} Hz; convert it: ffmpeg -i INPUT -ar {rate} OUTPUT.wav",
        spec.sample_rate
    );
    let full_scale = 2_f32.powi(i32::from(spec.bits_per_sample) - 1);
    let values: Vec<f32> = match spec.sample_format {
        SampleFormat::Int => reader.into_samples::<i32>().map(|v| Ok(v? as f32 / full_scale)).collect::<Result<_>>(),
        SampleFormat::Float => reader.into_samples::<f32>().map(|v| Ok(v?)).collect(),
    }
    .context("it is cut short or damaged")?;
    ensure!(values.iter().all(|v| v.is_finite()), "it holds a sample that is not finite");
    let channels = usize::from(spec.channels);
    let mono: Vec<f32> = values.chunks_exact(channels).map(|v| v.iter().sum::<f32>() / channels as f32).collect();
    ensure!(!mono.is_empty(), "it holds no samples");
    ensure!(mono.iter().any(|v| *v != mono[0]), "it is silent: all its samples are the same");
    Ok(mono)
}

/// Starts and ends of all windows. The last one ends with the recording; one that is shorter than a window is one.
pub fn windows(total: usize, size: usize, step: usize, least_tail: usize) -> Vec<(usize, usize)> {
    if total < size {
        return vec![(0, total)];
    }
    let mut found: Vec<_> = (0..=total - size).step_by(step).map(|start| (start, start + size)).collect();
    if total - found[found.len() - 1].1 >= least_tail {
        found.push((total - size, total));
    }
    found
}
