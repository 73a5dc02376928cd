//! Rules for the layout: how its images are listed, and what each is made of.

use std::path::Path;

use super::{Finding, Findings, Rule};
use crate::{
    architecture::Architecture,
    layer,
    layout::{self, Layout},
};

/// Largest compressed layer, in bytes: 1.6 MiB. Every node that is installed or upgraded fetches it.
pub const LARGEST_LAYER: u64 = 1_677_721;

/// Judges a layout of extension images, with every layer in it.
#[must_use]
pub fn judge(directory: &Path) -> Vec<Finding> {
    let mut findings = Findings::default();
    match Layout::open(directory) {
        Err(err) => findings.add(Rule::Index, err.to_string()),
        Ok(layout) => judge_layout(&layout, &mut findings),
    }
    findings.0
}

fn judge_layout(layout: &Layout, findings: &mut Findings) {
    let direct: Vec<_> = layout
        .index
        .manifests
        .iter()
        .filter(|descriptor| descriptor.platform.is_some())
        .collect();
    findings.demand(!direct.is_empty(), Rule::Platform, || {
        "no entry of index.json has a platform".to_owned()
    });
    for (tag, descriptor) in layout.tags().filter(|(tag, _)| !tag.ends_with(".sig")) {
        if descriptor.media_type != layout::INDEX {
            findings.add(Rule::Index, format!("{tag} is a lone {}", descriptor.media_type));
            continue;
        }
        match layout.json::<layout::Index>(descriptor) {
            Err(err) => findings.add(Rule::Digest, err.to_string()),
            Ok(index) => findings.demand(
                index.manifests.iter().eq(direct.iter().copied()),
                Rule::Index,
                || format!("{tag} and index.json list different images"),
            ),
        }
    }
    let named = layout.tags().any(|(tag, _)| !tag.ends_with(".sig"));
    findings.demand(named, Rule::Index, || {
        "no entry of index.json has a tag".to_owned()
    });
    for descriptor in direct {
        if let Err(err) = judge_image(layout, descriptor, findings) {
            findings.add(Rule::Digest, err.to_string());
        }
    }
}

fn judge_image(
    layout: &Layout,
    descriptor: &layout::Descriptor,
    findings: &mut Findings,
) -> Result<(), layout::LayoutError> {
    let manifest: layout::Manifest = layout.json(descriptor)?;
    let config: layout::Config = layout.json(&manifest.config)?;
    let platform = descriptor.platform.as_ref();
    let architecture = platform
        .filter(|platform| platform.os == "linux" && platform.architecture == config.architecture)
        .and_then(|platform| platform.architecture.parse::<Architecture>().ok());
    let Some(architecture) = architecture else {
        findings.add(
            Rule::Platform,
            format!("{platform:?} over an image for {}", config.architecture),
        );
        return Ok(());
    };
    let ([layer], [diff_id]) = (manifest.layers.as_slice(), config.rootfs.diff_ids.as_slice()) else {
        findings.add(
            Rule::OneLayer,
            format!("{architecture} has {} layers", manifest.layers.len()),
        );
        return Ok(());
    };
    findings.demand(layer.media_type == layout::LAYER, Rule::OneLayer, || {
        format!("{architecture} has a layer of type {}", layer.media_type)
    });
    findings.demand(layer.size <= LARGEST_LAYER, Rule::Size, || {
        format!(
            "the layer of {architecture} has {} bytes, more than {LARGEST_LAYER}",
            layer.size
        )
    });
    match layer::uncompress(&layout.blob(layer)?) {
        Err(err) => findings.add(Rule::OneLayer, format!("{architecture}: {err}")),
        Ok(content) => {
            findings.demand(layout::digest(&content) == *diff_id, Rule::Digest, || {
                format!("the layer of {architecture} is not {diff_id}")
            });
            findings.0.extend(super::archive(&content, architecture));
        }
    }
    Ok(())
}
