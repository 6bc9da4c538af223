//! A network of our own between nodes, which does to datagrams what it is told.
//!
//! Each node is alone in a network namespace, where it listens on an address of its own. A pair of virtual interfaces leads to
//! another namespace, in which the addresses of the others are, with sockets of ours: what comes to one of them goes to the other node
//! over its pair, from the sender's address. So a node needs to know nothing of it, and there is no other way from one to the other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where every node listens, on its own address.
const PORT: u16 = 7946;
/// The longest datagram.
const LEN_MAX: usize = 65_536;
/// How often a thread looks whether it is over.
const LOOK: Duration = Duration::from_millis(100);
/// How long a socket is kept for a command that listens nowhere, and is silent.
const SILENT: Duration = Duration::from_secs(60);

/// What happens to datagrams on all ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// This share is lost, in percent.
    pub loss: u64,
    /// This share comes twice, in percent.
    pub twice: u64,
    /// Each is late by up to so much, so that one overtakes the other.
    pub delay: Duration,
}

/// Which ways of a node are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Both,
    In,
    Out,
}

/// Datagrams that met with something.
#[derive(Debug, Default)]
pub struct Counts {
    pub passed: AtomicU64,
    pub cut: AtomicU64,
    pub lost: AtomicU64,
    pub late: AtomicU64,
    pub twice: AtomicU64,
}

/// A network namespace, as long as this lives.
struct Space {
    holder: Child,
    file: File,
}

impl Space {
    /// None where that is not allowed.
    fn new() -> Option<Self> {
        // It ends with its standard input, whatever becomes of the test.
        let hold = "ip link set lo up && echo up && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", hold]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = command.spawn().ok()?;
        let mut said = String::new();
        let read = holder.stdout.take().map(|out| BufReader::new(out).read_line(&mut said));
        let file = File::open(format!("/proc/{}/ns/net", holder.id()));
        match file {
            Ok(file) if matches!(read, Some(Ok(_))) && said == "up\n" => Some(Self { holder, file }),
            _ => {
                drop(holder.kill());
                drop(holder.wait());
                None
            }
        }
    }

    /// Runs a script of the shell there. None if it fails.
    fn run(&self, script: &str) -> Option<()> {
        let mut command = Command::new("nsenter");
        command.args([&self.name(), "sh", "-c", script]).stdin(Stdio::null()).stderr(Stdio::null());
        command.status().ok().filter(ExitStatus::success).map(|_| ())
    }

    /// For `nsenter`.
    fn name(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.holder.id())
    }

    /// A socket in the namespace. A thread of its own goes there for it: threads do not come back.
    fn bind(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let bind = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
            let socket = UdpSocket::bind(address)?;
            socket.set_read_timeout(Some(LOOK))?;
            Ok(socket)
        };
        std::thread::scope(|scope| scope.spawn(bind).join().expect("it does not panic"))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// A node's namespace, and the one at the other end of its only cable, where the addresses of the others are.
struct Cable {
    node: Space,
    others: Space,
}

impl Cable {
    /// None where that is not allowed.
    fn new(node: usize, nodes: usize) -> Option<Self> {
        let cable = Self { node: Space::new()?, others: Space::new()? };
        let peer = cable.others.holder.id();
        cable.node.run(&format!(
            "ip link add near type veth peer name far netns {peer} && ip addr add {}/24 dev near && ip link set near up",
            ip(node)
        ))?;
        for other in (0..nodes).filter(|other| *other != node) {
            cable.others.run(&format!("ip addr add {}/24 dev far", ip(other)))?;
        }
        cable.plug(true)?;
        Some(cable)
    }

    /// Pulls it out at the other end, or puts it in: the node's interface has a carrier, or none.
    fn plug(&self, is_in: bool) -> Option<()> {
        self.others.run(&format!("ip link set far {}", if is_in { "up" } else { "down" }))
    }
}

/// Where a node listens and is reached.
pub fn address(node: usize) -> SocketAddr {
    SocketAddr::new(ip(node), PORT)
}

fn ip(node: usize) -> IpAddr {
    let last = u8::try_from(node + 11).expect("there are few nodes");
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, last))
}

/// All ways between nodes.
pub struct Net {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

struct Inner {
    cables: Vec<Cable>,
    /// Of each node: at the other end of its cable, at the addresses of the others.
    sockets: Vec<Vec<Option<Arc<UdpSocket>>>>,
    state: Mutex<State>,
    counts: Counts,
    late: Mutex<Late>,
    more: Condvar,
    is_over: AtomicBool,
}

struct State {
    weather: Weather,
    /// By who sends and who is sent to.
    is_cut: Vec<Vec<bool>>,
    rng: Rng,
}

/// Datagrams by when they are due; the number keeps apart those of one moment.
#[derive(Default)]
struct Late {
    queue: BTreeMap<(Instant, u64), Datagram>,
    number: u64,
}

struct Datagram {
    from: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

impl Net {
    /// For so many nodes. None where network namespaces cannot be made.
    pub fn new(nodes: usize, rng: Rng) -> Option<Self> {
        let cables = (0..nodes).map(|node| Cable::new(node, nodes)).collect::<Option<Vec<Cable>>>()?;
        let socket = |here: usize, there: usize| {
            let bound = || Arc::new(cables[here].others.bind(address(there)).expect("nobody else is there"));
            (here != there).then(bound)
        };
        let sockets = (0..nodes).map(|here| (0..nodes).map(|there| socket(here, there)).collect()).collect();
        let state = State { weather: Weather::default(), is_cut: vec![vec![false; nodes]; nodes], rng };
        let inner = Arc::new(Inner {
            cables,
            sockets,
            state: Mutex::new(state),
            counts: Counts::default(),
            late: Mutex::default(),
            more: Condvar::new(),
            is_over: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
            let inner = Arc::clone(&inner);
            if from != to {
                threads.push(std::thread::spawn(move || carry(&inner, from, to)));
            }
        }
        let last = Arc::clone(&inner);
        threads.push(std::thread::spawn(move || last.deliver_late()));
        Some(Self { inner, threads })
    }

    /// The namespace of a node, for `nsenter`.
    pub fn space(&self, node: usize) -> String {
        self.inner.cables[node].node.name()
    }

    /// Pulls the cable of a node out, or puts it in again.
    pub fn plug(&self, node: usize, is_in: bool) {
        self.inner.cables[node].plug(is_in).expect("an interface can be set up and down");
    }

    pub fn set_weather(&self, weather: Weather) {
        lock(&self.inner.state).weather = weather;
    }

    /// Nothing passes to a node, from it, or both.
    pub fn cut(&self, node: usize, way: Way) {
        let mut state = lock(&self.inner.state);
        for other in (0..state.is_cut.len()).filter(|other| *other != node) {
            state.is_cut[other][node] |= way != Way::Out;
            state.is_cut[node][other] |= way != Way::In;
        }
    }

    /// Everything passes again.
    pub fn mend(&self) {
        let mut state = lock(&self.inner.state);
        state.is_cut.iter_mut().flatten().for_each(|is_cut| *is_cut = false);
    }

    pub fn counts(&self) -> &Counts {
        &self.inner.counts
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Inner {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn socket(&self, here: usize, there: usize) -> &Arc<UdpSocket> {
        self.sockets[here][there].as_ref().expect("nobody sends to himself")
    }

    /// When a datagram arrives, once or twice; never if it is lost.
    fn fate(&self, from: usize, to: usize) -> Vec<Duration> {
        let mut state = lock(&self.state);
        let Weather { loss, twice, delay } = state.weather;
        count(&self.counts.passed);
        if state.is_cut[from][to] {
            count(&self.counts.cut);
            return Vec::new();
        }
        if state.rng.chance(loss, 100) {
            count(&self.counts.lost);
            return Vec::new();
        }
        let times = if state.rng.chance(twice, 100) { 2 } else { 1 };
        if times == 2 {
            count(&self.counts.twice);
        }
        if !delay.is_zero() {
            count(&self.counts.late);
        }
        let most = u64::try_from(delay.as_micros()).expect("it is short");
        (0..times).map(|_| Duration::from_micros(state.rng.below(most + 1))).collect()
    }

    fn pass(&self, way: (usize, usize), from: &Arc<UdpSocket>, to: SocketAddr, bytes: &[u8]) {
        for delay in self.fate(way.0, way.1) {
            if delay.is_zero() {
                // As everywhere, what cannot be sent is lost.
                drop(from.send_to(bytes, to));
                continue;
            }
            let mut late = lock(&self.late);
            late.number += 1;
            let key = (Instant::now() + delay, late.number);
            late.queue.insert(key, Datagram { from: Arc::clone(from), to, bytes: bytes.to_vec() });
            self.more.notify_one();
        }
    }

    fn deliver_late(&self) {
        let mut late = lock(&self.late);
        while !self.is_over() {
            let now = Instant::now();
            match late.queue.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let Datagram { from, to, bytes } = first.remove();
                    drop(from.send_to(&bytes, to));
                }
                first => {
                    let wait = first.map_or(LOOK, |first| (first.key().0 - now).min(LOOK));
                    late = self.more.wait_timeout(late, wait).expect("nobody panics with it").0;
                }
            }
        }
    }
}

/// Carries what one node sends to another, until it is over.
fn carry(inner: &Arc<Inner>, from: usize, to: usize) {
    let here = inner.socket(from, to);
    let mut guests: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut bytes = vec![0; LEN_MAX];
    while !inner.is_over() {
        let Ok((len, source)) = here.recv_from(&mut bytes) else { continue };
        if source == address(from) {
            inner.pass((from, to), inner.socket(to, from), address(to), &bytes[..len]);
            continue;
        }
        // The thread of one that was silent has ended.
        guests.retain(|_, socket| Arc::strong_count(socket) > 1);
        let guest = guests.entry(source).or_insert_with(|| guest(inner, from, to, source));
        inner.pass((from, to), guest, address(to), &bytes[..len]);
    }
}

/// A way for a command that listens nowhere: what comes back to this socket goes back to where the command sends from.
fn guest(inner: &Arc<Inner>, from: usize, to: usize, source: SocketAddr) -> Arc<UdpSocket> {
    let socket = Arc::new(inner.cables[to].others.bind(SocketAddr::new(ip(from), 0)).expect("there are ports"));
    let (inner, there) = (Arc::clone(inner), Arc::clone(&socket));
    std::thread::spawn(move || {
        let mut bytes = vec![0; LEN_MAX];
        let mut heard = Instant::now();
        while !inner.is_over() && heard.elapsed() < SILENT {
            let Ok((len, _)) = there.recv_from(&mut bytes) else { continue };
            heard = Instant::now();
            inner.pass((to, from), inner.socket(from, to), source, &bytes[..len]);
        }
    });
    socket
}
