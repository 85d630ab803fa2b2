//! Ports that no other test takes.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// A TCP port of 127.0.0.1, kept from all other tests of this machine until it is dropped, also without a listener.
///
/// The UDP port of the same number is the sign that it is taken. The system gives it back when
/// the process ends, however it ends.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _taken: UdpSocket,
}

impl Port {
    /// Takes a free port. The port 10,000 above it, on which a node of a cluster has its bus, is free too.
    pub fn take() -> Self {
        let random = getrandom::u32().expect("the system has random bytes");
        let start = u16::try_from(random % u32::from(COUNT)).expect("less than COUNT");
        (0..COUNT)
            .find_map(|step| Self::take_number(FIRST + (start + step) % COUNT))
            .expect("of ten thousand ports, one is free")
    }

    /// The number of the port.
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Takes this port, if it is free.
    pub fn take_number(number: u16) -> Option<Self> {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        let free = |number| TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
        (free(number) && free(number + BUS)).then_some(Self { number, _taken: taken })
    }
}

/// Below the ports that systems give to outgoing connections (32768 and up on Linux), of which one could sit on a port
/// while its server is restarted; and so are the ports of the bus.
const FIRST: u16 = 12_000;
const COUNT: u16 = 10_000;
/// Redis 6.2 has it fixed.
const BUS: u16 = 10_000;
