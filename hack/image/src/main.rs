//! `image`: see `image --help`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use image::{
    NAME, VERSION,
    architecture::Architecture,
    catalog::{self, Catalog, Description, Line},
    contribution, daemon, extension,
    layout::{Layout, TAG},
    manifest::{Manifest, Release},
    rules,
    rules::Finding,
    sbom,
    signature::{self, Key},
};

#[derive(Parser)]
#[command(
    name = "image",
    about = "Builds talos-vmtoolsd and packs it as a Talos system extension",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    build: Build,
}

#[derive(Subcommand)]
enum Command {
    /// Judge an OCI layout, or a tarball, by every rule
    Check(Check),
    /// Write the bill of materials alone
    Sbom(Sbom),
    /// Make the catalog image that an Image Factory reads, for Talos releases
    Catalog(CatalogArguments),
    /// Make the directory for a pull request to siderolabs/extensions
    Contribute(Contribute),
    /// Sign every tag of an OCI layout with a key, as cosign does
    Sign(Sign),
}

/// Without a command: build and pack.
#[derive(Args)]
struct Build {
    /// Where the image goes; what is there is replaced
    #[arg(long, default_value = "target/image")]
    output: PathBuf,
    /// For which processors; without it, for those that this machine can build for
    #[arg(long = "arch", value_name = "ARCH")]
    architectures: Vec<Architecture>,
    /// Take this static binary instead of building one
    #[arg(long = "binary", value_name = "ARCH=PATH", value_parser = given_binary)]
    binaries: Vec<(Architecture, PathBuf)>,
}

#[derive(Args)]
struct Check {
    /// An OCI layout (a directory), or a tarball
    path: PathBuf,
    /// The processor, for a tarball
    #[arg(long, default_value = "amd64")]
    arch: Architecture,
}

#[derive(Args)]
struct Sbom {
    /// The Rust target that the binary is for
    #[arg(long)]
    target: String,
    /// Where it goes
    #[arg(long)]
    output: PathBuf,
}

#[derive(Args)]
struct CatalogArguments {
    /// The Talos release, such as v1.14.1: the tag of the catalog
    #[arg(long = "talos", required = true)]
    releases: Vec<String>,
    /// The layout of the extension
    #[arg(long, default_value = "target/image/oci")]
    image: PathBuf,
    /// Where the extension is published
    #[arg(long, default_value = REPOSITORY)]
    repository: String,
    /// A directory with the two files of the official catalog of the release, which are to be in this one as well
    #[arg(long)]
    official: Option<PathBuf>,
    /// Where the catalog's layout goes; what is there is replaced
    #[arg(long, default_value = "target/image/catalog")]
    output: PathBuf,
}

#[derive(Args)]
struct Contribute {
    /// The layout of the extension
    #[arg(long, default_value = "target/image/oci")]
    image: PathBuf,
    /// Where the extension is published
    #[arg(long, default_value = REPOSITORY)]
    repository: String,
    /// Where the directory goes
    #[arg(long, default_value = "target/contribution")]
    output: PathBuf,
}

#[derive(Args)]
struct Sign {
    /// The layout
    layout: PathBuf,
    /// A P-256 key in PEM, not encrypted
    #[arg(long)]
    key: PathBuf,
    /// Where the layout is published
    #[arg(long, default_value = REPOSITORY)]
    repository: String,
}

/// Where releases are published.
const REPOSITORY: &str = "ghcr.io/talos-vmtoolsd/talos-vmtoolsd";

fn given_binary(text: &str) -> Result<(Architecture, PathBuf), String> {
    let (architecture, path) = text.split_once('=').ok_or("it is not ARCH=PATH")?;
    let architecture = architecture
        .parse::<Architecture>()
        .map_err(|err| err.to_string())?;
    Ok((architecture, path.into()))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        None => build(&arguments.build),
        Some(Command::Check(check)) => {
            let findings = if check.path.is_dir() {
                rules::layout(&check.path)
            } else {
                let archive = fs::read(&check.path).with_context(|| check.path.display().to_string())?;
                rules::archive(&archive, check.arch)
            };
            refuse(&findings)?;
            println!("{}: in order", check.path.display());
            Ok(())
        }
        Some(Command::Catalog(arguments)) => make_catalog(&arguments),
        Some(Command::Contribute(arguments)) => contribute(&arguments),
        Some(Command::Sign(arguments)) => sign(&arguments),
        Some(Command::Sbom(arguments)) => {
            let text = sbom::describe(&daemon::workspace(), &arguments.target, time()?)?;
            fs::write(&arguments.output, text).with_context(|| arguments.output.display().to_string())
        }
    }
}

/// The reference of the image in a layout, once it is published.
fn published(directory: &Path, repository: &str) -> anyhow::Result<Line> {
    let layout = Layout::open(directory)?;
    let (tag, descriptor) = layout
        .tags()
        .find(|(tag, _)| *tag == VERSION)
        .with_context(|| format!("{} has no image {VERSION}", directory.display()))?;
    catalog::our_line(repository, tag, &descriptor.digest).map_err(|finding| anyhow::anyhow!("{finding}"))
}

fn manifest() -> anyhow::Result<String> {
    let path = daemon::workspace().join(extension::MANIFEST);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn contribute(arguments: &Contribute) -> anyhow::Result<()> {
    let line = published(&arguments.image, &arguments.repository)?;
    let directory = arguments.output.join(contribution::PLACE);
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    for (name, text) in contribution::files(&manifest()?, &line)? {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    println!("{}", directory.display());
    Ok(())
}

fn make_catalog(arguments: &CatalogArguments) -> anyhow::Result<()> {
    let line = published(&arguments.image, &arguments.repository)?;
    let read = |name: &str| {
        arguments
            .official
            .as_ref()
            .map_or(Ok(String::new()), |directory| {
                let path = directory.join(name);
                fs::read_to_string(&path).with_context(|| path.display().to_string())
            })
    };
    let mut entries = Catalog::read(&read(catalog::LINES)?, &read(catalog::DESCRIPTIONS)?)?;
    let text = manifest()?;
    let metadata = serde_yaml_ng::from_str::<Manifest>(&text)?.metadata;
    let description = Description {
        author: metadata.author,
        description: metadata.description,
    };
    entries.add(line, Some(description));

    let time = time()?;
    let archive = entries.archive(time)?;
    let mut layout = Layout::create(&arguments.output)?;
    let stored = layout.store_image(&archive, Architecture::Amd64, &BTreeMap::new(), time)?;
    for release in &arguments.releases {
        if Release::parse(release.strip_prefix('v').unwrap_or_default()).is_none() {
            bail!("{release:?} is no release such as v1.14.1");
        }
        let mut entry = stored.clone();
        entry.platform = None;
        entry.annotations.insert(TAG.to_owned(), release.clone());
        layout.index.manifests.push(entry);
        println!("{}:{release}: {}", arguments.output.display(), stored.digest);
    }
    layout.finish()?;
    Ok(())
}

fn sign(arguments: &Sign) -> anyhow::Result<()> {
    let pem = fs::read_to_string(&arguments.key).with_context(|| arguments.key.display().to_string())?;
    let key = Key::read(&pem)?;
    let mut layout = Layout::open(&arguments.layout)?;
    let mut signed: Vec<_> = layout
        .tags()
        .filter(|(tag, _)| !tag.ends_with(".sig"))
        .map(|(_, descriptor)| descriptor.clone())
        .collect();
    signed.sort_by(|a, b| a.digest.cmp(&b.digest));
    signed.dedup_by(|a, b| a.digest == b.digest);
    for descriptor in signed {
        key.sign(&mut layout, &descriptor, &arguments.repository)?;
        println!("{}: {}", signature::tag(&descriptor.digest)?, descriptor.digest);
    }
    layout.finish()?;
    Ok(())
}

fn build(arguments: &Build) -> anyhow::Result<()> {
    let workspace = daemon::workspace();
    let time = time()?;
    let binaries = binaries(arguments)?;

    let output = &arguments.output;
    let labels = BTreeMap::from(
        [
            ("source", format!("https://github.com/{NAME}/{NAME}")),
            ("title", NAME.to_owned()),
            ("version", VERSION.to_owned()),
            ("licenses", "Apache-2.0".to_owned()),
        ]
        .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value)),
    );
    let mut archives = Vec::new();
    for (architecture, binary) in binaries {
        let content = fs::read(&binary).with_context(|| binary.display().to_string())?;
        let target = format!("{}-unknown-linux-musl", architecture.machine());
        let bill = sbom::describe(&workspace, &target, time)?;
        let archive = extension::tree(&workspace, content, bill)?.archive(time)?;
        refuse(&rules::archive(&archive, architecture))?;
        archives.push((architecture, archive));
    }
    let mut layout = Layout::create(&output.join("oci"))?;
    let mut images = Vec::new();
    for (architecture, archive) in archives {
        let tarball = output.join(format!("{NAME}-{VERSION}-{architecture}.tar"));
        fs::write(&tarball, &archive).with_context(|| tarball.display().to_string())?;
        println!("{}: {} bytes", tarball.display(), archive.len());
        images.push(layout.store_image(&archive, architecture, &labels, time)?);
    }
    let named = layout.tag(images, VERSION)?;
    layout.finish()?;
    refuse(&rules::layout(&output.join("oci")))?;
    println!("{}:{VERSION}: {}", output.join("oci").display(), named.digest);
    Ok(())
}

/// The binaries that were given, and else those that can be built here.
fn binaries(arguments: &Build) -> anyhow::Result<BTreeMap<Architecture, PathBuf>> {
    let mut binaries: BTreeMap<_, _> = arguments.binaries.iter().cloned().collect();
    let mut wanted = arguments.architectures.clone();
    let optional = wanted.is_empty() && binaries.is_empty();
    if optional {
        wanted = Architecture::ALL.to_vec();
    }
    for architecture in wanted {
        if binaries.contains_key(&architecture) {
            continue;
        }
        eprintln!("building {NAME} for {architecture}");
        match daemon::build_for(architecture) {
            Ok(binary) => {
                binaries.insert(architecture, binary);
            }
            Err(err @ daemon::DaemonError::NoCompiler(_))
                if optional && architecture != Architecture::of_this_program() =>
            {
                eprintln!("{architecture} is left out: {err}");
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(binaries)
}

/// The one time in all headers, in seconds since 1970: `SOURCE_DATE_EPOCH`, else that of the commit.
fn time() -> anyhow::Result<u64> {
    if let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") {
        let text = value.to_string_lossy();
        return text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH={text:?} is no number of seconds"));
    }
    let output = Process::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(daemon::workspace())
        .output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .context("git did not tell the time of the commit"),
        // A source tree without its history.
        _ => Ok(0),
    }
}

fn refuse(findings: &[Finding]) -> anyhow::Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = findings.iter().map(|finding| format!("  {finding}")).collect();
    bail!("the image is refused:\n{}", lines.join("\n"));
}
