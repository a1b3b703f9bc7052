//! How addresses and peers are written on the command line: `HOST:PORT`, `ID=HOST:PORT` and, as the original
//! wrote it, `ID:HOST:PORT`; IPv6 stands in brackets. Only parses: nothing is resolved or dialed here.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::base::NodeId;

/// Longest host, in bytes: what the domain name system allows (RFC 1035, section 2.3.4), written with dots.
const HOST_BYTES_MAX: usize = 253;

/// A host, by name or number, and a port that is not 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The loopback address with this port.
    pub fn loopback(port: u16) -> Address {
        Address { host: "127.0.0.1".to_string(), port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine can be meant: 127.0.0.0/8, ::1, `localhost` and names below it (RFC 6761).
    pub fn is_loopback(&self) -> bool {
        match self.ip() {
            Some(ip) => ip.to_canonical().is_loopback(),
            None => {
                let name = self.host.trim_end_matches('.').to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }

    /// 0.0.0.0 or ::, "every interface": an address to listen on that nobody can dial.
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => bracketed(text, rest)?,
            None => {
                let (host, port) =
                    text.rsplit_once(':').ok_or_else(|| format!("'{text}' has no port; write HOST:PORT"))?;
                if host.contains(':') {
                    return Err(format!("'{text}': an IPv6 address stands in brackets, as in [::1]:5001"));
                }
                (host, port)
            }
        };
        check_host(text, host)?;
        Ok(Address { host: host.to_string(), port: parse_port(text, port)? })
    }
}

/// `rest` is what stands behind the opening bracket of `text`.
fn bracketed<'a>(text: &str, rest: &'a str) -> Result<(&'a str, &'a str), String> {
    let (host, behind) = rest.split_once(']').ok_or_else(|| format!("'{text}': the bracket is not closed"))?;
    let port = behind.strip_prefix(':').ok_or_else(|| format!("'{text}' has no port; write [HOST]:PORT"))?;
    host.parse::<Ipv6Addr>().map_err(|_| format!("'{text}': '{host}' in brackets is not an IPv6 address"))?;
    Ok((host, port))
}

fn check_host(text: &str, host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err(format!("'{text}' has no host; write HOST:PORT, for this machine 127.0.0.1:PORT"));
    }
    if host.len() > HOST_BYTES_MAX {
        return Err(format!("the host has {} bytes, the limit is {HOST_BYTES_MAX}", host.len()));
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    match host.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(format!("'{}': the host has a {c:?}; write HOST:PORT", text.escape_debug())),
        None => Ok(()),
    }
}

fn parse_port(text: &str, port: &str) -> Result<u16, String> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(0) => Err(format!("'{text}': port 0 can't be dialed; name one from 1 to 65535")),
        Ok(port) if digits => Ok(port),
        _ => Err(format!("'{text}': '{port}' is not a port; a port is a number from 1 to 65535")),
    }
}

/// Another member, as the operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: NodeId,
    pub address: Address,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.id, self.address)
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let (id, address) = text
            .split_once(['=', ':'])
            .ok_or_else(|| format!("'{text}' is not a peer; write ID=HOST:PORT, as in 2=localhost:5002"))?;
        let id = parse_id(id).map_err(|why| format!("'{text}': {why}; write ID=HOST:PORT"))?;
        let address = Address::from_str(address)?;
        Ok(Peer { id, address })
    }
}

/// A node id: decimal digits, 1 to 4,294,967,295.
pub fn parse_id(text: &str) -> Result<NodeId, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse::<u32>().ok() } else { None };
    number.and_then(NodeId::new).ok_or_else(|| format!("'{text}' is not an id; ids are 1 to 4294967295"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> String {
        text.parse::<Peer>().map_or_else(|error| format!("error: {error}"), |peer| peer.to_string())
    }

    #[test]
    fn both_ways_to_write_a_peer_mean_the_same() {
        assert_eq!(peer("2=localhost:5002"), "2=localhost:5002");
        assert_eq!(peer("2:localhost:5002"), "2=localhost:5002");
        assert_eq!(peer("4294967295=10.0.0.1:1"), "4294967295=10.0.0.1:1");
    }

    #[test]
    fn ipv6_stands_in_brackets_and_comes_back_in_brackets() {
        assert_eq!(peer("3=[::1]:5003"), "3=[::1]:5003");
        assert_eq!(peer("3:[fe80::2]:5003"), "3=[fe80::2]:5003");
        assert!(peer("3=::1:5003").contains("stands in brackets"));
        assert!(peer("3=[::1:5003").contains("not closed"));
        assert!(peer("3=[::1]5003").contains("no port"));
        assert!(peer("3=[localhost]:5003").contains("not an IPv6 address"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(peer("").contains("not a peer"));
        assert!(peer("0=localhost:1").contains("'0' is not an id"));
        assert!(peer("4294967296=localhost:1").contains("is not an id"));
        assert!(peer("+1=localhost:1").contains("is not an id"));
        assert!(peer("x=localhost:1").contains("'x' is not an id"));
        assert!(peer("2=localhost").contains("no port"));
        assert!(peer("2=:5002").contains("no host"));
        assert!(peer("2=localhost:0").contains("port 0"));
        assert!(peer("2=localhost:65536").contains("'65536' is not a port"));
        assert!(peer("2=localhost:+5").contains("is not a port"));
        assert!(peer("2=localhost:").contains("is not a port"));
        assert!(peer("2=a b:5002").contains("' '"));
        assert!(peer(&format!("2={}:5002", "a".repeat(254))).contains("254 bytes"));
    }

    #[test]
    fn loopback_is_told_from_elsewhere_without_resolving_names() {
        let loopback = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        for here in ["localhost:1", "LOCALHOST:1", "a.localhost.:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert!(loopback(here), "{here}");
        }
        for elsewhere in ["10.0.0.1:1", "0.0.0.0:1", "[::]:1", "db.example.org:1", "notlocalhost:1"] {
            assert!(!loopback(elsewhere), "{elsewhere}");
        }
    }
}
