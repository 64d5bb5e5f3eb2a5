//! Whose server it is that answers already where ours shall listen.
//!
//! While ours is away anybody on the machine can take its port, and whoever runs a Redis decides what is called there. So a closed daemon
//! uses one only if it is of its own user, of root, or of the user that keeps Redis on this machine.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;

use super::keeper;
use crate::broker::redis::Target;

/// The state of a socket that takes connections, as `/proc/net/tcp` has it.
const LISTENS: &str = "0A";

/// The user who has a server at `target` and could be anybody; `None` where it is somebody we trust, or cannot be told.
pub(super) fn owner(target: &Target) -> Option<u32> {
    let owners = match (target.host_and_port(), target.socket()) {
        (Some((_, port)), _) => {
            let read = |path| fs::read_to_string(path).unwrap_or_default();
            [read("/proc/net/tcp"), read("/proc/net/tcp6")].iter().flat_map(|table| listeners(table, port)).collect()
        }
        (None, Some(socket)) => fs::metadata(socket).map(|data| data.uid()).into_iter().collect::<Vec<_>>(),
        (None, None) => Vec::new(),
    };
    let trusted = [Some(0), Some(rustix::process::geteuid().as_raw()), keeper::package_user()];
    owners.into_iter().find(|owner| !trusted.contains(&Some(*owner)))
}

/// Who listens at `port` of this machine, in a table of the kernel's sockets.
fn listeners(table: &str, port: u16) -> Vec<u32> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, at) = fields.get(1)?.split_once(':')?;
        let is_it = u16::from_str_radix(at, 16).ok()? == port && *fields.get(3)? == LISTENS;
        let is_here = address_of(address).is_some_and(|address| address.is_loopback() || address.is_unspecified());
        (is_it && is_here).then(|| fields.get(7)?.parse().ok())?
    };
    table.lines().filter_map(line).collect()
}

/// An address as the kernel prints it: 32 bits after the other, each in the order of the machine.
fn address_of(digits: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..digits.len() / 8)
        .map(|at| Some(u32::from_str_radix(digits.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_table_of_the_kernel_says_who_listens() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            // Not every machine has IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let path = if address.starts_with('[') { "/proc/net/tcp6" } else { "/proc/net/tcp" };
            let me = rustix::process::geteuid().as_raw();
            assert_eq!(listeners(&fs::read_to_string(path).unwrap(), port), [me], "{address}");
        }
    }

    #[test]
    fn connections_and_other_ports_are_passed_over() {
        let connection = "  1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000 0 7 1";
        let other = "  2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 7 1";
        assert_eq!(listeners(&format!("  sl  local_address\n{connection}\n{other}\nnonsense\n"), 8080), [0_u32; 0]);
        assert_eq!(listeners(other, 8081), [1000]);
    }
}
