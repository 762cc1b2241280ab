//! Where outgoing calls may go: addresses of the public internet, and what was allowed by name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, written `10.0.0.0/8`, `fd00::/8` or as one address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    base: IpAddr,
    prefix: u32,
}

/// The text is not a range of addresses.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not a network: write an address, or one with a prefix length such as 10.0.0.0/8")]
pub struct InvalidNetwork {
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u32) -> Self {
        Self {
            base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            prefix,
        }
    }

    const fn v6(first: u16, second: u16, prefix: u32) -> Self {
        Self {
            base: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)),
            prefix,
        }
    }

    /// Tells whether an address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            let shift = width - self.prefix;
            ours.checked_shr(shift).unwrap_or(0) == theirs.checked_shr(shift).unwrap_or(0)
        };
        match (self.base, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same(ours.to_bits().into(), theirs.to_bits().into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }

    const fn is_one_address(&self) -> bool {
        match self.base {
            IpAddr::V4(_) => self.prefix == 32,
            IpAddr::V6(_) => self.prefix == 128,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork {
            text: text.chars().take(64).collect(),
        };
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| invalid())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => digits.parse().map_err(|_| invalid())?,
            None => width,
        };
        if prefix > width {
            return Err(invalid());
        }
        Ok(Self { base, prefix })
    }
}

/// Says which addresses outgoing calls may reach.
///
/// Without exceptions only the public internet: private, loopback, link-local, shared (CGNAT), multicast
/// and reserved ranges are refused in every spelling. A cloud's metadata address is opened only by a
/// network of exactly that address, never by a wider one.
///
/// ```
/// use aurora_transport::http::EgressRules;
///
/// let rules = EgressRules::public_only().with_allowed("10.20.0.0/16".parse()?);
/// assert!(rules.allow("93.184.216.34".parse()?));
/// assert!(rules.allow("10.20.3.4".parse()?));
/// assert!(!rules.allow("10.21.3.4".parse()?));
/// assert!(!rules.allow("::ffff:127.0.0.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct EgressRules {
    allowed: Vec<Network>,
    https_only: bool,
}

impl EgressRules {
    /// Only the public internet, over http and https.
    pub fn public_only() -> Self {
        Self::default()
    }

    /// Also this network.
    #[must_use]
    pub fn with_allowed(mut self, network: Network) -> Self {
        self.allowed.push(network);
        self
    }

    /// Also this machine itself, for parts of one process or host that call each other.
    #[must_use]
    pub fn with_loopback(self) -> Self {
        self.with_allowed(Network::v4(127, 0, 0, 0, 8))
            .with_allowed(Network {
                base: IpAddr::V6(Ipv6Addr::LOCALHOST),
                prefix: 128,
            })
    }

    /// Also private networks and this machine itself: for destinations that an operator configured, never
    /// for those that users write.
    #[must_use]
    pub fn with_private(self) -> Self {
        [
            Network::v4(10, 0, 0, 0, 8),
            Network::v4(100, 64, 0, 0, 10),
            Network::v4(172, 16, 0, 0, 12),
            Network::v4(192, 168, 0, 0, 16),
            Network::v6(0xfc00, 0, 7),
        ]
        .into_iter()
        .fold(self.with_loopback(), Self::with_allowed)
    }

    /// Only https.
    #[must_use]
    pub const fn with_https_only(mut self) -> Self {
        self.https_only = true;
        self
    }

    /// Tells whether a scheme may be used.
    pub fn allow_scheme(&self, scheme: &str) -> bool {
        scheme == "https" || (scheme == "http" && !self.https_only)
    }

    /// Tells whether an address may be reached.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = effective(address);
        let allowed = |exactly: bool| {
            self.allowed
                .iter()
                .any(|network| network.contains(address) && (network.is_one_address() || !exactly))
        };
        if METADATA.iter().any(|network| network.contains(address)) {
            return allowed(true);
        }
        allowed(false) || !REFUSED.iter().any(|network| network.contains(address))
    }
}

/// Where clouds serve credentials to whoever asks.
const METADATA: [Network; 4] = [
    Network::v4(169, 254, 169, 254, 32),
    Network::v4(169, 254, 170, 2, 32),
    Network::v4(168, 63, 129, 16, 32),
    Network {
        base: IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
        prefix: 128,
    },
];

/// Ranges that are not the public internet.
const REFUSED: [Network; 26] = [
    Network::v4(0, 0, 0, 0, 8),
    Network::v4(10, 0, 0, 0, 8),
    Network::v4(100, 64, 0, 0, 10),
    Network::v4(127, 0, 0, 0, 8),
    Network::v4(169, 254, 0, 0, 16),
    Network::v4(172, 16, 0, 0, 12),
    Network::v4(192, 0, 0, 0, 24),
    Network::v4(192, 0, 2, 0, 24),
    Network::v4(192, 88, 99, 0, 24),
    Network::v4(192, 168, 0, 0, 16),
    Network::v4(198, 18, 0, 0, 15),
    Network::v4(198, 51, 100, 0, 24),
    Network::v4(203, 0, 113, 0, 24),
    Network::v4(224, 0, 0, 0, 4),
    Network::v4(240, 0, 0, 0, 4),
    // Unspecified, loopback, and addresses of the old "compatible" form.
    Network::v6(0, 0, 96),
    // Local-use translation, discard, Teredo and other protocol ranges, documentation.
    Network::v6(0x64, 0xff9b, 32),
    Network::v6(0x100, 0, 64),
    Network::v6(0x2001, 0, 23),
    Network::v6(0x2001, 0xdb8, 32),
    Network::v6(0x3fff, 0, 20),
    Network::v6(0x5f00, 0, 16),
    // Unique local, link-local, the old site-local, multicast.
    Network::v6(0xfc00, 0, 7),
    Network::v6(0xfe80, 0, 10),
    Network::v6(0xfec0, 0, 10),
    Network::v6(0xff00, 0, 8),
];

/// The address that packets end up at: what is mapped, translated or tunnelled to IPv4 counts as that.
fn effective(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let embedded =
        |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b, c, d, e, f) {
        (0x64, 0xff9b, 0, 0, 0, 0) => embedded(g, h),
        (0x2002, ..) => embedded(b, c),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_not_the_public_internet_is_refused_in_every_spelling() {
        let rules = EgressRules::public_only();
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.8.8",
            "168.63.129.16",
            "169.254.1.1",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!rules.allow(address(refused)), "{refused}");
        }
    }

    #[test]
    fn the_public_internet_is_allowed_up_to_the_edge_of_each_range() {
        let rules = EgressRules::public_only();
        for allowed in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
        ] {
            assert!(rules.allow(address(allowed)), "{allowed}");
        }
    }

    #[test]
    fn a_metadata_address_is_opened_only_by_its_own_name() {
        let wide = EgressRules::public_only().with_allowed("169.254.0.0/16".parse().unwrap());
        assert!(wide.allow(address("169.254.7.7")));
        assert!(!wide.allow(address("169.254.169.254")));
        assert!(!wide.allow(address("::ffff:169.254.169.254")));
        let exact = wide.with_allowed("169.254.169.254".parse().unwrap());
        assert!(exact.allow(address("169.254.169.254")));
    }

    #[test]
    fn loopback_is_opened_for_both_families_and_nothing_else() {
        let rules = EgressRules::public_only().with_loopback();
        for allowed in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(rules.allow(address(allowed)), "{allowed}");
        }
        assert!(!rules.allow(address("10.0.0.1")));
    }

    #[test]
    fn private_networks_are_opened_without_metadata_and_link_local() {
        let rules = EgressRules::public_only().with_private();
        for allowed in [
            "10.1.2.3",
            "172.20.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd12::1",
            "127.0.0.1",
            "1.1.1.1",
        ] {
            assert!(rules.allow(address(allowed)), "{allowed}");
        }
        for refused in [
            "169.254.169.254",
            "fd00:ec2::254",
            "169.254.1.1",
            "fe80::1",
            "0.0.0.0",
            "224.0.0.1",
        ] {
            assert!(!rules.allow(address(refused)), "{refused}");
        }
    }

    #[test]
    fn networks_are_read_strictly() {
        for good in ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3", "::/0", "fd00::/8", "::1"] {
            assert!(good.parse::<Network>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/x",
            "localhost",
            "010.0.0.1",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        assert!(
            "0.0.0.0/0"
                .parse::<Network>()
                .unwrap()
                .contains(address("203.0.113.9"))
        );
        assert!(!"0.0.0.0/0".parse::<Network>().unwrap().contains(address("::1")));
    }

    #[test]
    fn https_only_leaves_https() {
        let rules = EgressRules::public_only();
        assert!(rules.allow_scheme("http") && rules.allow_scheme("https") && !rules.allow_scheme("ftp"));
        let strict = rules.with_https_only();
        assert!(!strict.allow_scheme("http") && strict.allow_scheme("https"));
    }
}
