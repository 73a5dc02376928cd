//! What the settings name links and addresses by.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::address;
use crate::talos::snapshot::Prefix;

/// A network, or a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Every address in it.
    Network(Prefix),
    /// Every address on the link of this name.
    Link(String),
}

/// Longest name of a link, in bytes: that of an alternative name (`ALTIFNAMSIZ` less the end mark, linux/if.h).
const MAX_LINK_NAME: usize = 127;

impl Selector {
    /// A CIDR, an address, or the name of a link; none for what is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((address, length)) = text.split_once('/') {
            let prefix = Prefix::new(address.parse().ok()?, length.parse().ok()?)?;
            return Some(Self::Network(address::unmapped(prefix)));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let length = if address.is_ipv4() { 32 } else { 128 };
            return Some(Self::Network(address::unmapped(Prefix { address, length })));
        }
        let address_like = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ':'));
        let name = !address_like
            && text.len() <= MAX_LINK_NAME
            && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        name.then(|| Self::Link(text.to_owned()))
    }

    /// A list, separated by commas; none if one of its items cannot be read.
    pub fn parse_list(text: &str) -> Option<Vec<Self>> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(Self::parse).collect()
    }

    /// Whether it names this link.
    pub fn names_link(&self, link: &str) -> bool {
        matches!(self, Self::Link(name) if name == link)
    }

    /// Whether it names this address on this link.
    pub fn names(&self, link: &str, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => address::contains(*network, address),
            Self::Link(_) => self.names_link(link),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_networks_and_links() {
        let list =
            Selector::parse_list("10.0.0.0/8, eth1,,fd00::/8,2001:db8::5, ::ffff:10.1.0.0/112").unwrap();
        let shown: Vec<String> = list
            .iter()
            .map(|item| match item {
                Selector::Network(network) => network.to_string(),
                Selector::Link(link) => link.clone(),
            })
            .collect();
        assert_eq!(
            shown,
            ["10.0.0.0/8", "eth1", "fd00::/8", "2001:db8::5/128", "10.1.0.0/16"]
        );
        assert_eq!(Selector::parse_list(""), Some(vec![]));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "10.0.0.0/33",
            "10.0.0/8",
            "eth0/24",
            "10.0.0",
            "1.2.3.4.5",
            "a b",
            "a\0",
        ] {
            assert_eq!(Selector::parse_list(text), None, "{text}");
        }
        assert_eq!(Selector::parse(&"n".repeat(128)), None);
    }

    #[test]
    fn what_is_named() {
        let network = Selector::parse("10.0.0.0/8").unwrap();
        assert!(network.names("eth0", [10, 1, 2, 3].into()));
        assert!(!network.names("eth0", [11, 1, 2, 3].into()));
        assert!(!network.names_link("eth0"));
        let link = Selector::parse("eth1").unwrap();
        assert!(link.names("eth1", [11, 1, 2, 3].into()));
        assert!(!link.names("eth10", [11, 1, 2, 3].into()));
    }
}
