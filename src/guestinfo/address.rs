//! One address: whether it is reported, how good it is, and what the kernel's flags say about it.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde::Serialize;

use super::{
    nic::{MacAddr, Origin, Status},
    origin::{Origins, Sharing},
};
use crate::talos::snapshot::{AddressStatus, Prefix};

/// IFA_F_TEMPORARY for IPv6; the same bit is IFA_F_SECONDARY for IPv4 (linux/if_addr.h, as all below).
const IFA_F_SECONDARY: u32 = 0x01;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
/// Without a lifetime: set by hand, or by the kernel as link-local.
const IFA_F_PERMANENT: u32 = 0x80;
/// The kernel derives temporary addresses from this one: it came by a router advertisement.
const IFA_F_MANAGETEMPADDR: u32 = 0x100;
const IFA_F_STABLE_PRIVACY: u32 = 0x800;

/// RT_SCOPE_LINK and narrower is not routable (linux/rtnetlink.h); Talos draws the line there too.
const RT_SCOPE_LINK: i32 = 253;
const RT_SCOPE_HOST: i32 = 254;

/// How good an address is as the node's address, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rank {
    /// The settings put it first.
    Chosen {
        /// Its place in their list.
        place: usize,
    },
    /// The kubelet calls it the node's: one of each family at most.
    Kubelet,
    /// The one Talos calls the node's.
    Node,
    /// The default route leaves with it.
    DefaultRoute,
    /// Valid beyond the link.
    Global,
    /// fc00::/7, and the old fec0::/10.
    UniqueLocal,
    /// fe80::/10, 169.254.0.0/16, or declared so by its scope.
    LinkLocal,
}

/// Why an address is not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unfit {
    /// Loopback, unspecified, multicast or broadcast, or of host scope.
    NoUnicast,
    /// Duplicate detection has not ended.
    Tentative,
    /// Somebody else has it.
    Duplicate,
}

/// What decides about the place of an address in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Other nodes may have it tomorrow.
    pub shared: Option<Sharing>,
    /// Valid, not for new connections.
    pub deprecated: bool,
    /// See there.
    pub rank: Rank,
    /// Temporary, or a second one of its IPv4 network.
    pub secondary: bool,
    /// The family.
    pub v6: bool,
    /// Made up by the node from a router advertisement, not given to it.
    pub advertised: bool,
}

impl Class {
    /// Orders addresses, the best first: shared ones after everything, before them link-local ones, before them
    /// deprecated ones, then by rank; of one rank IPv4 before IPv6, of one family temporary and secondary ones last,
    /// and an address that was given to the node (by hand, by DHCP) before one that it made up.
    pub fn order(&self) -> impl Ord + use<> {
        let link_local = self.rank == Rank::LinkLocal;
        (
            self.shared.is_some(),
            link_local,
            self.deprecated,
            self.rank,
            self.v6,
            self.secondary,
            self.advertised,
        )
    }
}

/// An address that is fit to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// IPv4 where it was IPv4-mapped.
    pub prefix: Prefix,
    /// Where it stands.
    pub link: &'a str,
    /// See there.
    pub class: Class,
    /// As far as Talos or the flags tell.
    pub origin: Option<Origin>,
    /// By the flags.
    pub status: Status,
}

impl<'a> Candidate<'a> {
    /// Judges `status`, which stands on the adapter `mac`.
    pub fn new(status: &'a AddressStatus, mac: MacAddr, origins: &Origins) -> Result<Self, Unfit> {
        let prefix = unmapped(status.address);
        let flags = status.flags;
        let has = |flag| flags & flag != 0;
        if !is_unicast(prefix.address) || status.scope >= RT_SCOPE_HOST {
            return Err(Unfit::NoUnicast);
        }
        if has(IFA_F_DADFAILED) {
            return Err(Unfit::Duplicate);
        }
        // An optimistic address is tentative too, and in use (RFC 4429).
        if has(IFA_F_TENTATIVE) && !has(IFA_F_OPTIMISTIC) {
            return Err(Unfit::Tentative);
        }
        let rank = if status.scope >= RT_SCOPE_LINK {
            Rank::LinkLocal
        } else {
            natural_rank(prefix.address)
        };
        let origin = origins
            .of(prefix.address)
            .or_else(|| origin(prefix, rank, flags, mac));
        Ok(Self {
            prefix,
            link: &status.link_name,
            class: Class {
                shared: None,
                deprecated: has(IFA_F_DEPRECATED),
                rank,
                secondary: has(IFA_F_SECONDARY),
                v6: prefix.address.is_ipv6(),
                advertised: matches!(origin, Some(Origin::LinkLayer | Origin::Random)),
            },
            origin,
            status: if has(IFA_F_DEPRECATED) {
                Status::Deprecated
            } else if has(IFA_F_OPTIMISTIC) {
                Status::Optimistic
            } else {
                Status::Preferred
            },
        })
    }
}

impl Candidate<'_> {
    /// Of use beyond the link, and the node's alone.
    pub fn is_own(&self) -> bool {
        self.class.rank != Rank::LinkLocal && self.class.shared.is_none()
    }

    /// A network of one address: /32 or /128.
    pub fn is_single(&self) -> bool {
        self.prefix.length >= if self.class.v6 { 128 } else { 32 }
    }
}

/// The address without IPv4-in-IPv6 clothing.
pub fn unmapped(prefix: Prefix) -> Prefix {
    match prefix.address.to_canonical() {
        address @ IpAddr::V4(_) if prefix.address.is_ipv6() => Prefix {
            address,
            length: prefix.length.saturating_sub(96),
        },
        _ => prefix,
    }
}

/// Whether `address` lies in the network of `prefix`.
pub fn contains(prefix: Prefix, address: IpAddr) -> bool {
    let length = u32::from(prefix.length);
    match (prefix.address, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let differing = a.to_bits() ^ b.to_bits();
            differing.checked_shr(32_u32.saturating_sub(length)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differing = a.to_bits() ^ b.to_bits();
            differing.checked_shr(128_u32.saturating_sub(length)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn is_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || broadcast)
}

/// The rank an address has by itself, before Talos and the routes are asked.
fn natural_rank(address: IpAddr) -> Rank {
    match address {
        IpAddr::V4(address) if address.is_link_local() => Rank::LinkLocal,
        IpAddr::V4(_) => Rank::Global,
        IpAddr::V6(address) if address.is_unicast_link_local() => Rank::LinkLocal,
        IpAddr::V6(address) => {
            let [first, ..] = address.segments();
            let site_local = first & 0xffc0 == 0xfec0;
            if address.is_unique_local() || site_local {
                Rank::UniqueLocal
            } else {
                Rank::Global
            }
        }
    }
}

/// What the flags prove, and nothing more: a DHCP lease and a static address look alike here.
fn origin(prefix: Prefix, rank: Rank, flags: u32, mac: MacAddr) -> Option<Origin> {
    let IpAddr::V6(address) = prefix.address else {
        return None;
    };
    if rank == Rank::LinkLocal {
        return Some(Origin::Other);
    }
    if flags & IFA_F_SECONDARY != 0 {
        return Some(Origin::Random);
    }
    let advertised =
        flags & (IFA_F_MANAGETEMPADDR | IFA_F_STABLE_PRIVACY) != 0 || address.octets().ends_with(&eui64(mac));
    (advertised && flags & IFA_F_PERMANENT == 0 && prefix.length == 64).then_some(Origin::LinkLayer)
}

/// The interface identifier that SLAAC derives from an Ethernet address (RFC 4291, appendix A).
fn eui64(mac: MacAddr) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x00, 0x50, 0x56, 0xaa, 0xbb, 0x01]);

    fn status(text: &str, scope: i32, flags: u32) -> AddressStatus {
        let (address, length) = text.split_once('/').unwrap();
        AddressStatus {
            address: Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap(),
            link_name: "eth0".into(),
            scope,
            flags,
        }
    }

    /// Without a word of Talos about who asked for it.
    fn judge(status: &AddressStatus) -> Result<Candidate<'_>, Unfit> {
        Candidate::new(status, MAC, &Origins::default())
    }

    #[test]
    fn classes_of_addresses() {
        for (text, scope, rank) in [
            ("10.0.0.5/24", 0, Rank::Global),
            ("169.254.7.7/16", 253, Rank::LinkLocal),
            ("169.254.7.7/16", 0, Rank::LinkLocal),
            ("2001:db8::5/64", 0, Rank::Global),
            ("fd65:a1a8:60ad:981::13f/128", 0, Rank::UniqueLocal),
            ("fec0::1/64", 200, Rank::UniqueLocal),
            ("fe80::1/64", 253, Rank::LinkLocal),
            // A routable address that its owner declared valid on the link only.
            ("10.0.0.5/24", 253, Rank::LinkLocal),
        ] {
            let status = status(text, scope, 0x80);
            assert_eq!(judge(&status).unwrap().class.rank, rank, "{text}");
        }
        for text in [
            "127.0.0.1/8",
            "::1/128",
            "0.0.0.0/0",
            "::/0",
            "224.0.0.1/4",
            "ff02::1/128",
            "255.255.255.255/32",
        ] {
            let status = status(text, 0, 0x80);
            assert_eq!(judge(&status), Err(Unfit::NoUnicast), "{text}");
        }
        let host = status("10.0.0.5/32", 254, 0x80);
        assert_eq!(judge(&host), Err(Unfit::NoUnicast));
    }

    #[test]
    fn flags_decide_the_status() {
        for (flags, expected) in [
            (0x80, Ok(Status::Preferred)),
            (0x20, Ok(Status::Deprecated)),
            (0x40, Err(Unfit::Tentative)),
            (0x40 | 0x04, Ok(Status::Optimistic)),
            (0x40 | 0x08, Err(Unfit::Duplicate)),
            (0x80 | 0x08, Err(Unfit::Duplicate)),
        ] {
            let status = status("2001:db8::5/64", 0, flags);
            let got = judge(&status).map(|candidate| candidate.status);
            assert_eq!(got, expected, "{flags:#x}");
        }
    }

    #[test]
    fn an_origin_is_told_only_when_the_flags_prove_it() {
        for (text, flags, expected) in [
            ("10.0.0.5/24", 0x80, None),
            ("10.0.0.6/24", 0x01, None),
            ("2001:db8::5/64", 0x80, None),
            ("2001:db8::5/64", 0, None),
            ("2001:db8::5/64", 0x100, Some(Origin::LinkLayer)),
            ("2001:db8::5/64", 0x800, Some(Origin::LinkLayer)),
            ("2001:db8::5/64", 0x80 | 0x100, None),
            ("2001:db8::250:56ff:feaa:bb01/64", 0, Some(Origin::LinkLayer)),
            ("2001:db8::250:56ff:feaa:bb01/64", 0x80, None),
            ("2001:db8::250:56ff:feaa:bb01/128", 0, None),
            ("2001:db8::77/64", 0x01, Some(Origin::Random)),
            ("fe80::250:56ff:feaa:bb01/64", 0x80, Some(Origin::Other)),
        ] {
            let status = status(text, 0, flags);
            assert_eq!(judge(&status).unwrap().origin, expected, "{text} {flags:#x}");
        }
    }

    #[test]
    fn ipv4_mapped_is_ipv4() {
        let status = status("::ffff:10.0.0.5/120", 0, 0x80);
        let candidate = judge(&status).unwrap();
        assert_eq!(candidate.prefix.to_string(), "10.0.0.5/24");
        assert!(!candidate.class.v6);
    }

    #[test]
    fn networks_of_any_length_contain_what_they_should() {
        let holds = |network: &str, address: &str| {
            let (base, length) = network.split_once('/').unwrap();
            let prefix = Prefix {
                address: base.parse().unwrap(),
                length: length.parse().unwrap(),
            };
            contains(prefix, address.parse().unwrap())
        };
        assert!(holds("10.0.0.5/24", "10.0.0.1"));
        assert!(!holds("10.0.0.5/24", "10.0.1.1"));
        assert!(holds("10.0.0.5/0", "192.0.2.1"));
        assert!(!holds("10.0.0.5/32", "10.0.0.1"));
        assert!(holds("2001:db8::5/64", "2001:db8::1"));
        assert!(!holds("2001:db8::5/128", "2001:db8::1"));
        assert!(!holds("10.0.0.5/0", "::1"));
        // Lengths that no family has must not break anything.
        assert!(holds("10.0.0.5/255", "10.0.0.5"));
    }
}
