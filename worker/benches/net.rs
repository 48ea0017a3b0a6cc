//! The network on loopback: a block of 64 MiB over QUIC at three packet sizes beside plain TCP, in turns, so that what
//! else the machine does slows all of them; and round trips of control, idle and beside bulk. Writes Markdown.
//! `cargo bench -p gridloom-worker --bench net`

#![allow(clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use gridloom_worker::agent::{Answer, Part};
use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::dtype::DType;
use gridloom_worker::ids::{ArrayId, BlockId, ClientId, WorkerId};
use gridloom_worker::net::identity::{Authority, Party, Role};
use gridloom_worker::net::{
    Bulk, BulkOptions, Control, Dialer, PACKET_BYTES_ETHERNET, PACKET_BYTES_LOOPBACK, PACKET_BYTES_MAX, Received,
    Server,
};
use gridloom_worker::wire::Parcel;

const BLOCK_BYTES: usize = 64 << 20;
const TURNS: usize = 11;
const ROUND_TRIPS: usize = 2000;
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const BLOCK: BlockId = BlockId { array: ArrayId { client: ClientId(1), sequence: 1 }, index: 0 };

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let authority = Arc::new(Authority::new()?);
    println!("| work | measured | wanted, or beside | ratio |\n|---|---|---|---|");
    blocks(&authority)?;
    round_trips(&authority)
}

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// A worker that holds one block, and another that asks for it.
struct Pair {
    asker: Bulk,
    holder: WorkerId,
    _held: Bulk,
}

impl Pair {
    fn new(authority: &Authority, packet_bytes_max: u16) -> Result<Pair, Error> {
        let worker = || authority.identity(authority.new_party(Role::Worker), now()).map(Arc::new);
        let options = BulkOptions { listen: Some(ANY_PORT), packet_bytes_max, ..BulkOptions::default() };
        let mut buffer = BufferMut::zeroed(BLOCK_BYTES);
        buffer
            .bytes_mut()
            .iter_mut()
            .zip(0u32..)
            .for_each(|(byte, at)| *byte = (at.wrapping_mul(2_654_435_761) >> 24) as u8);
        let shape = [(BLOCK_BYTES / 4) as u64].into_iter().collect();
        let data = Block::new(Item::Value(DType::F32), shape, buffer.freeze());
        let identity = worker()?;
        let holder = WorkerId(identity.party().id);
        let held = Bulk::open(identity, options, move |_: Party, _, reply| {
            reply.answer(Answer::Data(vec![Some(Part { data: data.clone(), region: None })]), || {});
        })?;
        let asker = Bulk::open(worker()?, BulkOptions { listen: None, ..options }, |_, _, _| {})?;
        asker.meet(holder, held.address()?.to_string());
        Ok(Pair { asker, holder, _held: held })
    }

    /// Fetches the block `count` times at once.
    fn fetch(&self, count: usize) -> Result<(), Error> {
        let (tell, told) = mpsc::channel();
        for _ in 0..count {
            let tell = tell.clone();
            self.asker.fetch(self.holder, Parcel::one(BLOCK), 0, None, move |result| _ = tell.send(result.map(drop)));
        }
        for _ in 0..count {
            told.recv()??;
        }
        Ok(())
    }
}

/// The same bytes over plain TCP, into memory that is there already: what this machine's loopback can do.
struct Tcp {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Tcp {
    fn new() -> Result<Tcp, Error> {
        let listener = TcpListener::bind(ANY_PORT)?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let (mut holder, _) = listener.accept()?;
        let bytes = vec![7; BLOCK_BYTES];
        thread::spawn(move || {
            let mut request = [0];
            while holder.read_exact(&mut request).is_ok() && holder.write_all(&bytes).is_ok() {}
        });
        Ok(Tcp { stream, buffer: vec![1; BLOCK_BYTES] })
    }

    fn fetch(&mut self) -> Result<(), Error> {
        self.stream.write_all(&[1])?;
        Ok(self.stream.read_exact(&mut self.buffer)?)
    }
}

fn blocks(authority: &Authority) -> Result<(), Error> {
    let sizes = [PACKET_BYTES_ETHERNET, PACKET_BYTES_MAX, PACKET_BYTES_LOOPBACK];
    let pairs = sizes.map(|size| Pair::new(authority, size));
    let mut tcp = Tcp::new()?;
    // Plain TCP first, then each size with one and with four blocks at once.
    let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); 1 + 2 * sizes.len()];
    for _ in 0..TURNS {
        seconds[0].push(timed(|| tcp.fetch())?);
        for (at, pair) in pairs.iter().enumerate() {
            let pair = pair.as_ref().map_err(|error| error.to_string())?;
            seconds[1 + 2 * at].push(timed(|| pair.fetch(1))?);
            seconds[2 + 2 * at].push(timed(|| pair.fetch(4))? / 4.0);
        }
    }
    let rate = |of: &mut Vec<f64>| {
        // The first turn finds the packet size and fills the pools.
        of.remove(0);
        BLOCK_BYTES as f64 / median(of) / 1e9
    };
    let plain = rate(&mut seconds[0]);
    println!("| 64 MiB, plain TCP on loopback | {plain:.2} GB/s | | |");
    for (at, (size, pair)) in sizes.iter().zip(&pairs).enumerate() {
        let (one, four) = (rate(&mut seconds[1 + 2 * at]), rate(&mut seconds[2 + 2 * at]));
        let wanted = match *size {
            PACKET_BYTES_ETHERNET => "0.4 GB/s",
            _ => "1.2 GB/s",
        };
        for (_, traffic) in pair.as_ref().map_err(|error| error.to_string())?.asker.traffic() {
            let (packet, trip) = (traffic.packet_bytes, traffic.round_trip);
            let (lost, sent) = (traffic.packets_lost, traffic.packets_sent);
            println!(
                "| 64 MiB worker to worker over QUIC, packets of {packet} | {one:.2} GB/s, four at once {four:.2}; \
                 {lost} of {sent} packets lost, round trip {trip:.0?} | {wanted}; TCP {plain:.2} | {:.2}, {:.2} of TCP |",
                one / plain,
                four / plain
            );
        }
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<(), Error>) -> Result<f64, Error> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn median(of: &mut [f64]) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Both ends of a control connection: what one says, the other says again.
struct Echo {
    control: Control<u64>,
    heard: mpsc::Receiver<Received<u64>>,
    _ends: (Server, Dialer),
}

impl Echo {
    fn new(authority: &Arc<Authority>) -> Result<Echo, Error> {
        let accept = |session: gridloom_worker::net::Session| {
            let speaker: Arc<Mutex<Option<Control<u64>>>> = Arc::default();
            let speaks = Arc::clone(&speaker);
            let control = session.start::<u64, u64>(move |received| {
                let mut speaks = speaks.lock().expect("nobody panics");
                match received {
                    Received::Message(number) => speaks.iter().for_each(|control| _ = control.send(&number)),
                    Received::Closed(_) => drop(speaks.take()),
                }
            });
            *speaker.lock().expect("nobody panics") = Some(control);
        };
        let server = Server::bind(ANY_PORT, Arc::clone(authority), accept)?;
        let (dialer, address) = (Dialer::new()?, server.address().to_string());
        let identity = dialer.join(&address, &authority.token(), Role::Client)?;
        let (hear, heard) = mpsc::channel();
        let session = dialer.connect(&address, &identity)?;
        let control = session.start::<u64, u64>(move |received| _ = hear.send(received));
        Ok(Echo { control, heard, _ends: (server, dialer) })
    }

    /// Seconds of each of many round trips, shortest first.
    fn round_trips(&self) -> Result<Vec<f64>, Error> {
        let mut seconds = Vec::with_capacity(ROUND_TRIPS);
        for number in 0..ROUND_TRIPS as u64 {
            seconds.push(timed(|| {
                self.control.send(&number)?;
                self.heard.recv()?;
                Ok(())
            })?);
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds)
    }
}

fn round_trips(authority: &Arc<Authority>) -> Result<(), Error> {
    let echo = Echo::new(authority)?;
    echo.round_trips()?;
    report("control round trip, idle", &echo.round_trips()?);
    for size in [PACKET_BYTES_ETHERNET, PACKET_BYTES_MAX] {
        let (pair, ended) = (Pair::new(authority, size)?, AtomicBool::new(false));
        pair.fetch(1)?;
        let seconds = thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    if ended.load(Ordering::Relaxed) || pair.fetch(2).is_err() {
                        break;
                    }
                }
            });
            let seconds = echo.round_trips().map_err(|error| error.to_string());
            ended.store(true, Ordering::Relaxed);
            seconds
        })?;
        report(&format!("control round trip beside bulk, packets up to {size}"), &seconds);
    }
    Ok(())
}

fn report(what: &str, seconds: &[f64]) {
    let at = |share: f64| 1e6 * seconds[((seconds.len() - 1) as f64 * share) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    println!("| {what} | p50 {p50:.0} us, p99 {p99:.0} us | <= 500 us | {:.2} |", p50 / 500.0);
}
