//! The directory that a pull request to siderolabs/extensions would add: `guest-agents/talos-vmtoolsd`.
//!
//! It is generated, and not kept in the tree: bldr loads every file called `pkg.yaml` or `vars.yaml` and every template that
//! it finds. The recipe takes the published image apart, pinned by the digest of its index, as other recipes there do.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{VERSION, catalog::Line};

/// Where the directory stands in that repository.
pub const PLACE: &str = "guest-agents/talos-vmtoolsd";

/// The level of support that the repository's owners give to contributions.
const TIER: &str = "contrib";

const RECIPE: &str = r#"name: talos-vmtoolsd
variant: scratch
dependencies:
  - stage: base
  - image: "{{ .TALOS_VMTOOLSD_IMAGE }}"
    from: /rootfs
    to: /rootfs
steps:
  - test:
      - |
        mkdir -p /extensions-validator-rootfs
        cp -r /rootfs/ /extensions-validator-rootfs/rootfs
        cp /pkg/manifest.yaml /extensions-validator-rootfs/manifest.yaml
        /extensions-validator validate --rootfs=/extensions-validator-rootfs --pkg-name="${PKG_NAME}"
finalize:
  - from: /rootfs
    to: /rootfs
  - from: /pkg/manifest.yaml
    to: /
"#;

const PAGE: &str = "# talos-vmtoolsd

VMware guest tools for Talos Linux: heartbeat, name, addresses and disks in vCenter, Shut Down Guest and Restart Guest.

It replaces `vmtoolsd-guest-agent`: both call their service `ext-talos-vmtoolsd`, so only one of them can be in an image.
Nothing has to be configured; settings go to `machine.env`. Off VMware the service idles.
";

/// A manifest that cannot be made a template.
#[derive(Debug, Error)]
#[error("manifest.yaml does not hold {0:?}")]
pub struct TemplateError(String);

/// The files of the directory, by name.
///
/// # Errors
///
/// When the manifest names neither version nor tier as expected.
pub fn files(manifest: &str, image: &Line) -> Result<BTreeMap<&'static str, String>, TemplateError> {
    let mut template = manifest.to_owned();
    for (text, variable) in [
        (format!("version: \"{VERSION}\""), "version: \"{{ .VERSION }}\""),
        (format!("[{TIER}]"), "[{{ .TIER }}]"),
    ] {
        if !template.contains(&text) {
            return Err(TemplateError(text));
        }
        template = template.replace(&text, variable);
    }
    let variables = format!("VERSION: \"{VERSION}\"\nTIER: \"{TIER}\"\nTALOS_VMTOOLSD_IMAGE: \"{image}\"\n");
    Ok(BTreeMap::from([
        ("README.md", PAGE.to_owned()),
        ("manifest.yaml.tmpl", template),
        ("pkg.yaml", RECIPE.to_owned()),
        ("vars.yaml", variables),
    ]))
}

#[cfg(test)]
mod tests {
    use serde_yaml_ng::Value;

    use super::*;
    use crate::NAME;

    const MANIFEST: &str = include_str!("../../../manifest.yaml");

    #[test]
    fn the_template_gives_the_manifest_again() {
        let digest = crate::layout::digest(b"");
        let line = Line::new("ghcr.io/talos-vmtoolsd/talos-vmtoolsd", VERSION, &digest).unwrap();
        let files = files(MANIFEST, &line).unwrap();
        let variables: BTreeMap<String, String> = serde_yaml_ng::from_str(&files["vars.yaml"]).unwrap();
        let rendered = |name: &str| {
            let mut text = files[name].clone();
            for (variable, value) in &variables {
                text = text.replace(&format!("{{{{ .{variable} }}}}"), value);
            }
            assert!(!text.contains("{{"), "{text}");
            text
        };
        assert_eq!(rendered("manifest.yaml.tmpl"), MANIFEST);
        let recipe: Value = serde_yaml_ng::from_str(&rendered("pkg.yaml")).unwrap();
        assert_eq!(recipe["name"], NAME);
        assert_eq!(recipe["dependencies"][1]["image"], line.to_string());
        assert!(files.keys().all(|name| !name.contains('/')));
    }

    #[test]
    fn another_manifest_is_refused() {
        let line = Line::new("ghcr.io/a/talos-vmtoolsd", VERSION, &crate::layout::digest(b"")).unwrap();
        assert!(files("version: v1alpha1", &line).is_err());
    }
}
