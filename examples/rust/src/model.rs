//! A bundle's model in tract: its ONNX twin, or the .tflite itself.
use crate::bundle::Bundle;
use anyhow::{Context, Result, anyhow};
use std::{io::Cursor, sync::Arc};
use tract_onnx::{prelude::*, tract_core::ops::math};

pub struct Model {
    plan: Arc<TypedRunnableModel>,
    shape: [usize; 4],
}

impl Model {
    /// Opens "onnx", or a precision whose .tflite tract can run.
    pub fn open(bundle: &Bundle, name: &str) -> Result<Model> {
        let told = &bundle.manifest;
        let entry = if name == "onnx" { &told["onnx"] } else { &told["models"][name] };
        let file = entry["file"].as_str().with_context(|| format!("the bundle has no model {name}"))?;
        let bytes = &mut Cursor::new(bundle.file(file)?);
        let typed = if name == "onnx" {
            tract_onnx::onnx().model_for_read(bytes).and_then(|model| model.into_typed())
        } else {
            tract_tflite::tflite().model_for_read(bytes).map(with_means)
        };
        let plan = typed.and_then(|model| model.into_optimized()?.into_runnable());
        let plan = plan.map_err(|error| {
            let reason = error.root_cause().to_string(); // several lines, where an operator is missing
            anyhow!("tract cannot run {file}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" "))
        })?;
        Ok(Model { plan, shape: [1, bundle.n_mels, bundle.n_frames, 1] })
    }

    /// Logits of a window's mel, row-major [n_mels, n_frames].
    pub fn run(&self, mel: &[f32]) -> Result<Vec<f32>> {
        let input = Tensor::from_shape(&self.shape, mel)?;
        let outputs = self.plan.run(tvec!(input.into()))?;
        Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}

/// tract-tflite 0.23.9 divides the sum of a MEAN with an operator of quantized tensors, which rounds to whole numbers.
fn with_means(mut model: TypedModel) -> TypedModel {
    for node in model.nodes.iter_mut().filter(|node| node.op.name() == "Scale") {
        node.op = Box::new(math::mul());
    }
    model
}
