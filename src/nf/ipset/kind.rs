//! The set types: names, dimensions, what each stores; the closed list that the kernel has.
//!
//! From the `ip_set_type` declarations in net/netfilter/ipset/*.c (name, dimension, features, revision_max)
//! and ipset(8). Knows no set and no element. Invariant: a dimension's place in [`Kind::dims`] is the
//! place of
//! its `src` or `dst` in a rule.

/// What one dimension of a set holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dim {
    /// An address.
    Ip,
    /// A network.
    Net,
    /// A protocol and a port, or an ICMP type and code.
    Port,
    /// A link-layer address.
    Mac,
    /// The packet's mark.
    Mark,
    /// An interface.
    Iface,
    /// The name of another set.
    Set,
}

/// How a set stores its elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// A hash of up to `maxelem` elements.
    Hash,
    /// One bit per member of a range.
    Bitmap,
    /// An ordered list of sets.
    List,
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident = $name:literal, $old:literal, $rev:literal, $method:ident,
        [$($dim:ident)*];)+) => {
        /// A set type.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Kind { $($(#[$doc])+ $kind,)+ }

        impl Kind {
            /// Every type.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),+];

            /// `hash:ip,port`.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)+ }
            }

            /// The name or the name it had before ipset 5 (libipset lib/ipset_*.c `.alias`).
            pub fn parse(text: &str) -> Option<Kind> {
                match text { $($name | $old => Some(Kind::$kind),)+ _ => None }
            }

            /// How elements are stored.
            pub fn method(self) -> Method {
                match self { $(Kind::$kind => Method::$method,)+ }
            }

            /// The dimensions, in order.
            pub fn dims(self) -> &'static [Dim] {
                match self { $(Kind::$kind => &[$(Dim::$dim),*],)+ }
            }

            /// The newest revision that ipset 7.17 knows; `ipset list` prints it.
            pub fn revision(self) -> u8 {
                match self { $(Kind::$kind => $rev,)+ }
            }
        }
    };
}
kinds! {
    /// Addresses.
    HashIp = "hash:ip", "iphash", 6, Hash, [Ip];
    /// Link-layer addresses.
    HashMac = "hash:mac", "machash", 1, Hash, [Mac];
    /// Address and link-layer address.
    HashIpMac = "hash:ip,mac", "ipmachash", 1, Hash, [Ip Mac];
    /// Networks.
    HashNet = "hash:net", "nethash", 7, Hash, [Net];
    /// Pairs of networks.
    HashNetNet = "hash:net,net", "netnethash", 4, Hash, [Net Net];
    /// Network and port.
    HashNetPort = "hash:net,port", "netporthash", 8, Hash, [Net Port];
    /// Network and interface.
    HashNetIface = "hash:net,iface", "netifacehash", 8, Hash, [Net Iface];
    /// Network, port, network.
    HashNetPortNet = "hash:net,port,net", "netportnethash", 3, Hash, [Net Port Net];
    /// Address and port.
    HashIpPort = "hash:ip,port", "ipporthash", 7, Hash, [Ip Port];
    /// Address, port, address.
    HashIpPortIp = "hash:ip,port,ip", "ipportiphash", 6, Hash, [Ip Port Ip];
    /// Address, port, network.
    HashIpPortNet = "hash:ip,port,net", "ipportnethash", 8, Hash, [Ip Port Net];
    /// Address and mark.
    HashIpMark = "hash:ip,mark", "ipmarkhash", 3, Hash, [Ip Mark];
    /// A range of IPv4 addresses or networks of one size.
    BitmapIp = "bitmap:ip", "ipmap", 3, Bitmap, [Ip];
    /// A range of IPv4 addresses with optional link-layer addresses.
    BitmapIpMac = "bitmap:ip,mac", "macipmap", 3, Bitmap, [Ip Mac];
    /// A range of ports.
    BitmapPort = "bitmap:port", "portmap", 3, Bitmap, [Port];
    /// An ordered list of other sets.
    ListSet = "list:set", "setlist", 3, List, [Set];
}

impl Kind {
    /// Whether elements of either address family may be asked for (kernel: `set->family == NFPROTO_UNSPEC`).
    pub fn any_family(self) -> bool {
        matches!(self, Kind::HashMac | Kind::BitmapPort | Kind::ListSet)
    }

    /// Whether elements can be exceptions (kernel: IPSET_TYPE_NOMATCH).
    pub fn has_nomatch(self) -> bool {
        self.dims().contains(&Dim::Net)
    }

    /// Which of the two addresses of an element are networks.
    pub fn nets(self) -> [bool; 2] {
        let mut out = [false; 2];
        let addrs = self
            .dims()
            .iter()
            .filter(|d| matches!(d, Dim::Ip | Dim::Net));
        for (slot, dim) in out.iter_mut().zip(addrs) {
            *slot = *dim == Dim::Net;
        }
        out
    }

    /// Whether a prefix of length 0 can be stored (ipset(8); the `uadt` functions' CIDR checks).
    pub fn zero_prefix(self) -> bool {
        matches!(self, Kind::HashNetIface | Kind::HashNetPortNet)
    }

    /// Whether elements of the two types are the same kind of thing, so that sets can be swapped
    /// (ip_set_core.c `ip_set_swap` compares `type->features`).
    pub fn same_features(self, other: Kind) -> bool {
        let features = |k: Kind| {
            let has = |d| k.dims().contains(&d);
            let addrs = k.dims().iter().filter(|d| matches!(d, Dim::Ip | Dim::Net));
            let rest = [Dim::Port, Dim::Mac, Dim::Mark, Dim::Iface, Dim::Set].map(has);
            (addrs.count(), rest, k.has_nomatch())
        };
        features(self) == features(other)
    }
}
