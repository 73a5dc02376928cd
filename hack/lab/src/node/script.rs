//! State files: a node as people write it down. `hack/lab/nodes` holds examples with comments.
//!
//! The lines under `links`, `addresses` and `routes` are the words that the control interface takes after `link add`,
//! `address add` and `route add`.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

use super::{
    command::{Command, ParseError},
    network::node_ips,
    release::{Release, UnknownRelease},
    schema::{
        self, Field, Shape,
        cluster::{MACHINE_TYPES, NODE_IP_CONFIGS},
        network, runtime,
    },
    store::{Document, Store, StoreError},
};

/// A text that is no state file, or no document.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It is no YAML.
    #[error(transparent)]
    Yaml(#[from] saphyr::ScanError),
    /// It is YAML that JSON cannot express, or more than one document.
    #[error("{0}")]
    Shape(&'static str),
    /// It has other keys or values than it should.
    #[error(transparent)]
    Keys(#[from] serde_json::Error),
    /// The release is unknown.
    #[error(transparent)]
    Release(#[from] UnknownRelease),
    /// A line has other words than it should.
    #[error("{line:?}: {mistake}")]
    Line {
        /// The line.
        line: String,
        /// What is wrong with it.
        mistake: Box<ParseError>,
    },
}

/// A state file.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Script {
    /// The release, 1.14 when absent; `--talos` overrules it.
    talos: Option<String>,
    hostname: String,
    domain: String,
    resolvers: Vec<String>,
    search_domains: Vec<String>,
    /// `controlplane`, `worker`, or `unknown` for a node without machine configuration.
    machine_type: String,
    stage: String,
    pod_subnets: Vec<String>,
    service_subnets: Vec<String>,
    /// The kubelet's `nodeIP.validSubnets`; without them the node has no NodeIPs, as before the kubelet is configured.
    kubelet_subnets: Vec<String>,
    links: Vec<String>,
    addresses: Vec<String>,
    routes: Vec<String>,
    filesystems: Vec<String>,
    /// Written by `lab node --record`: there is nothing but the resources of this file, and what they hold of a later
    /// or unknown Talos is left out.
    recorded: bool,
    containers: Vec<String>,
    /// Any other resources; one that is also made from the lines above replaces that.
    resources: Vec<Document>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            talos: None,
            hostname: "talos".to_owned(),
            domain: String::new(),
            resolvers: Vec::new(),
            search_domains: Vec::new(),
            machine_type: "controlplane".to_owned(),
            stage: "running".to_owned(),
            pod_subnets: vec!["10.244.0.0/16".to_owned()],
            service_subnets: vec!["10.96.0.0/12".to_owned()],
            kubelet_subnets: Vec::new(),
            links: Vec::new(),
            addresses: Vec::new(),
            routes: Vec::new(),
            filesystems: Vec::new(),
            recorded: false,
            containers: Vec::new(),
            resources: Vec::new(),
        }
    }
}

impl Script {
    /// Reads a state file.
    pub fn read(text: &str) -> Result<Self, ScriptError> {
        Ok(serde_json::from_value(yaml(text)?)?)
    }

    /// The node of `hack/lab/nodes/control-plane.yaml`.
    pub fn control_plane() -> Result<Self, ScriptError> {
        Self::read(include_str!("../../nodes/control-plane.yaml"))
    }

    /// The same node by another name, without links; what a mirror starts from.
    pub fn bare() -> Self {
        Self::default()
    }

    /// The release that the file asks for.
    pub fn release(&self) -> Result<Option<Release>, ScriptError> {
        Ok(self.talos.as_deref().map(str::parse).transpose()?)
    }

    /// The commands that the lines stand for.
    pub fn commands(&self) -> Result<Vec<Command>, ScriptError> {
        let lines = [
            ("link", &self.links),
            ("address", &self.addresses),
            ("route", &self.routes),
            ("filesystem", &self.filesystems),
            ("container", &self.containers),
        ];
        lines
            .into_iter()
            .flat_map(|(noun, lines)| lines.iter().map(move |line| (noun, line)))
            .map(|(noun, line)| {
                format!("{noun} add {line}")
                    .parse()
                    .map_err(|mistake| ScriptError::Line {
                        line: line.clone(),
                        mistake: Box::new(mistake),
                    })
            })
            .collect()
    }

    /// Puts everything that is not a link, an address or a route.
    pub fn seed(&self, store: &Store) -> Result<(), StoreError> {
        for document in self.documents(store.release()) {
            // A file may speak of types that only later releases have.
            let known = |release| schema::find(&document.kind, release).is_some();
            if known(store.release()) || !known(Release::default()) {
                store.put(document)?;
            }
        }
        Ok(())
    }

    fn documents(&self, release: Release) -> Vec<Document> {
        if self.recorded {
            return self
                .resources
                .iter()
                .map(|told| known_part(told, release))
                .collect();
        }
        let configured = self.machine_type != "unknown";
        let subnets = [self.pod_subnets.as_slice(), self.service_subnets.as_slice()].concat();
        let mut documents = vec![
            Document::new(
                runtime::MACHINE_STATUSES,
                super::stage::MACHINE,
                json!({ "stage": self.stage, "status": { "ready": true } }),
            ),
            Document::new(
                MACHINE_TYPES,
                "machine-type",
                json!({ "machineType": self.machine_type }),
            ),
            Document::new(
                runtime::SECURITY_STATES,
                "securitystate",
                json!({ "selinuxState": "enabled, permissive", "bootedWithUKI": true }),
            ),
            Document::new(
                "PlatformMetadatas.talos.dev",
                "platformmetadata",
                json!({ "platform": "vmware" }),
            ),
            Document::new(
                "Versions.runtime.talos.dev",
                "version",
                json!({ "version": release.tag(), "name": "Talos" }),
            ),
            Document::new(
                "BootIDs.runtime.talos.dev",
                "boot-id",
                json!({ "bootID": "2b1f7c52-9e0b-4a3e-8f0a-6d1c5e9b7a40" }),
            ),
            Document::new(
                network::NETWORK_STATUSES,
                "status",
                json!({
                    "addressReady": true, "connectivityReady": true, "hostnameReady": true, "etcFilesReady": true,
                }),
            ),
            hostname(&self.hostname, &self.domain),
            resolvers(&self.resolvers, &self.search_domains),
        ];
        if configured {
            documents.push(Document::new(
                network::NODE_ADDRESS_FILTERS,
                "no-k8s",
                json!({ "excludeSubnets": subnets }),
            ));
            documents.push(Document::new(
                network::NODE_ADDRESS_FILTERS,
                "only-k8s",
                json!({ "includeSubnets": subnets }),
            ));
        }
        if configured && !self.kubelet_subnets.is_empty() {
            documents.push(Document::new(
                NODE_IP_CONFIGS,
                node_ips::KUBELET,
                json!({ "validSubnets": self.kubelet_subnets, "excludeSubnets": subnets }),
            ));
        }
        documents.extend(self.resources.iter().cloned());
        documents
    }
}

/// The document without the keys that this laboratory has no field for. Where Talos writes a bare value it gets the
/// name of its field.
fn known_part(document: &Document, release: Release) -> Document {
    fn prune(value: &mut Value, fields: &'static [Field]) {
        let Value::Object(map) = value else { return };
        map.retain(|key, inner| {
            let field = fields.iter().find(|field| field.name == *key);
            match (field.map(|field| field.shape), inner) {
                (Some(Shape::Message(nested)), inner) => prune(inner, nested),
                (Some(Shape::List(&Shape::Message(nested))), Value::Array(items)) => {
                    items.iter_mut().for_each(|item| prune(item, nested));
                }
                _ => {}
            }
            field.is_some()
        });
    }
    let mut document = document.clone();
    if let Some(known) = schema::find(&document.kind, release) {
        if let ([only], true, false) = (known.fields, known.generated, document.spec.is_object()) {
            document.spec = json!({ only.name: document.spec });
        }
        prune(&mut document.spec, known.fields);
    }
    document
}

/// The HostnameStatus.
pub fn hostname(name: &str, domain: &str) -> Document {
    Document::new(
        network::HOSTNAME_STATUSES,
        "hostname",
        json!({ "hostname": name, "domainname": domain }),
    )
}

/// The ResolverStatus; both lists of servers are kept in step, as on a node.
pub fn resolvers(servers: &[String], search: &[String]) -> Document {
    let named: Vec<_> = servers.iter().map(|server| json!({ "addr": server })).collect();
    Document::new(
        network::RESOLVER_STATUSES,
        "resolvers",
        json!({ "dnsServers": servers, "nameServers": named, "searchDomains": search }),
    )
}

/// Reads one resource, YAML or JSON.
pub fn document(text: &str) -> Result<Document, ScriptError> {
    Ok(serde_json::from_value(yaml(text)?)?)
}

/// YAML as JSON.
fn yaml(text: &str) -> Result<Value, ScriptError> {
    match Yaml::load_from_str(text)?.as_slice() {
        [] => Ok(Value::Object(Map::new())),
        [document] => value(document),
        _ => Err(ScriptError::Shape("more than one YAML document")),
    }
}

fn value(node: &Yaml<'_>) -> Result<Value, ScriptError> {
    Ok(match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::FloatingPoint(value)) => {
            Number::from_f64(value.into_inner()).map_or(Value::Null, Value::Number)
        }
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(items) => items.iter().map(value).collect::<Result<_, _>>()?,
        Yaml::Mapping(map) => {
            let mut object = Map::new();
            for (key, inner) in map {
                let key = match key {
                    Yaml::Value(Scalar::String(text)) => text.as_ref().to_owned(),
                    Yaml::Value(Scalar::Integer(number)) => number.to_string(),
                    Yaml::Value(Scalar::Boolean(word)) => word.to_string(),
                    _ => return Err(ScriptError::Shape("a key that is no text")),
                };
                object.insert(key, value(inner)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(_, inner) => value(inner)?,
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => {
            return Err(ScriptError::Shape("a YAML value that JSON cannot express"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let text = |text: &str| Script::read(text).unwrap_err().to_string();
        assert!(text("hostnme: x").contains("unknown field `hostnme`"));
        assert!(text("links: eth0").contains("expected a sequence"));
        assert!(text("a: [").contains("while parsing"));
        let script = Script::read("links: [eth0 vmxnet3 mtuu 5]").unwrap();
        assert_eq!(
            script.commands().unwrap_err().to_string(),
            "\"eth0 vmxnet3 mtuu 5\": \"mtuu\" is no attribute of a link"
        );
        assert!(Script::read("talos: \"1.9\"").unwrap().release().is_err());
    }

    #[test]
    fn json_is_read_as_well() {
        let document =
            document(r#"{"type": "X", "id": "a", "spec": {"n": 1, "l": [true, null, 0.5]}}"#).unwrap();
        assert_eq!(document.spec, json!({ "n": 1, "l": [true, null, 0.5] }));
    }
}
