//! What QUIC is told of windows, packets and silence, as measured (DESIGN 14's rates hang on it).
//!
//! Packets: `packet_bytes_max` is how far MTU discovery may go, on both ends. Up to [`OFFLOAD_BYTES_MAX`] the kernel
//! cuts a train of packets (GSO); beyond it GSO would silently fall back to the smallest packets, so it is switched
//! off. Discovery starts at 1200 bytes whatever the bound is: a large first packet never completes a handshake.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use super::error::NetError;

/// Nothing heard for this long: the other side is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(3);
/// So that a living one is always heard.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// Bytes in flight of one bulk connection: a delay of 25 ms at 2.5 GB/s.
const BULK_WINDOW: u32 = 64 << 20;
/// Bytes that a control connection may have sent ahead. It also bounds what one that has not joined can make us keep.
const CONTROL_WINDOW: u32 = 256 << 10;
/// The kernel's buffer of a socket, if it grants so much: a burst must fit.
const SOCKET_BYTES: usize = 8 << 20;

/// The largest packets that the kernel cuts itself.
const OFFLOAD_BYTES_MAX: u16 = 6500;
/// The largest packets unless told otherwise: found where the path has jumbo frames, and still cut by the kernel.
pub const PACKET_BYTES_MAX: u16 = OFFLOAD_BYTES_MAX;
/// The largest packets of ordinary Ethernet.
pub const PACKET_BYTES_ETHERNET: u16 = 1452;
/// The largest packets there are: for two processes of one host.
pub const PACKET_BYTES_LOOPBACK: u16 = 65_507;

/// What endpoints receive at least (RFC 9000 has 1200; this is quinn's own default).
const RECEIVE_BYTES_MIN: u16 = 1472;

/// Connections that carry messages.
pub(super) fn control() -> TransportConfig {
    let mut config = common();
    config.stream_receive_window(VarInt::from_u32(CONTROL_WINDOW));
    config.receive_window(VarInt::from_u32(CONTROL_WINDOW));
    // The stream of messages; who has joined may open others, to renew its certificate.
    config.max_concurrent_bidi_streams(VarInt::from_u32(1));
    config
}

/// Connections that carry blocks, at most `streams` at once.
pub(super) fn bulk(streams: u32, packet_bytes_max: u16) -> TransportConfig {
    let mut config = common();
    config.stream_receive_window(VarInt::from_u32(BULK_WINDOW));
    config.receive_window(VarInt::from_u32(BULK_WINDOW));
    config.send_window(BULK_WINDOW.into());
    config.max_concurrent_bidi_streams(VarInt::from_u32(streams));
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(packet_bytes_max);
    config.mtu_discovery_config(Some(discovery));
    config.enable_segmentation_offload(packet_bytes_max <= OFFLOAD_BYTES_MAX);
    config
}

fn common() -> TransportConfig {
    let mut config = TransportConfig::default();
    config.keep_alive_interval(Some(KEEP_ALIVE));
    config.max_idle_timeout(Some(DEAD_AFTER.try_into().expect("three seconds are a valid idle timeout")));
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config.datagram_receive_buffer_size(None);
    config
}

/// What all connections of a socket share.
pub(super) fn endpoint(packet_bytes_max: u16) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    let largest = packet_bytes_max.max(RECEIVE_BYTES_MIN);
    config.max_udp_payload_size(largest).expect("a packet of 1472 bytes and more is a valid one");
    config
}

/// What a dialled endpoint keeps for those who have not yet been let in.
pub(super) fn server(
    crypto: quinn::crypto::rustls::QuicServerConfig,
    transport: TransportConfig,
) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    config.max_incoming(1024).incoming_buffer_size(64 << 10).incoming_buffer_size_total(16 << 20);
    config
}

/// A socket with large buffers. `None` for one that only dials: of both families where the machine has them.
pub(super) fn socket(address: Option<SocketAddr>) -> Result<UdpSocket, NetError> {
    match address {
        Some(address) => bind(address).map_err(|error| NetError::Listen { address, error: error.kind() }),
        None => {
            let bound = bind((Ipv6Addr::UNSPECIFIED, 0).into());
            bound.or_else(|_| bind((Ipv4Addr::UNSPECIFIED, 0).into())).map_err(NetError::system("no UDP socket"))
        }
    }
}

fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // The kernel may grant less; that is slower, not wrong.
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.bind(&address.into())?;
    let granted = socket.recv_buffer_size().unwrap_or(0);
    tracing::debug!(%address, granted, wanted = SOCKET_BYTES, "socket buffers");
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn sockets_have_the_largest_buffers_that_the_system_grants() {
        let granted = |limit: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/net/core/{limit}")).unwrap();
            // Linux doubles what it is asked for, and says so.
            2 * SOCKET_BYTES.min(text.trim().parse().unwrap())
        };
        for address in [None, Some((Ipv4Addr::LOCALHOST, 0).into())] {
            let socket = socket(address).unwrap();
            let socket = SockRef::from(&socket);
            assert_eq!(socket.recv_buffer_size().unwrap(), granted("rmem_max"));
            assert_eq!(socket.send_buffer_size().unwrap(), granted("wmem_max"));
        }
    }
}
