//! What hostile peers cost a node in a process of its own: its memory and its files, as the system counts them. Rows P5, P6, P7, P13,
//! P21 and P23 of the threat model.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Child, ChildStdout, Command, Stdio};

use filesync_p2p::Message;

use super::crowds::get;
use super::*;

/// What there is in the tree of the node, beside small files.
const LARGE: usize = 16 << 20;
/// Whoever is told so by the environment is the node.
const VARIABLE: &str = "FILESYNC_NODE_APART";

/// Not a test: the node, in a process that [`Apart`] starts. It says what it counts whenever it is asked.
#[test]
#[ignore = "it is started by others"]
fn node() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let node = Node::new(1);
    let head = node.repo.commit(&some_tree(1, LARGE), &[]);
    println!("\nhere {} {}", node.addr(), head.0);
    for _ in std::io::stdin().lines() {
        let streams = node.shared.as_ref().map_or(0, |shared| shared.guard().streams());
        println!("count {streams} {} {}", node.net().connections().len(), node.net().tasks());
    }
}

/// A node in a process of its own.
struct Apart {
    process: Child,
    says: BufReader<ChildStdout>,
    addr: String,
    head: CommitId,
}

impl Apart {
    fn new() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a test binary"));
        command.args(["--exact", "apart::node", "--ignored", "--nocapture"]).env(VARIABLE, "1");
        // As `serve --detach` has it.
        command.env("MALLOC_ARENA_MAX", "2").env("MALLOC_MMAP_THRESHOLD_", "131072");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut says = BufReader::new(process.stdout.take().expect("it is piped"));
        let here = words(&mut says, "here");
        let (addr, head) = (here[0].clone(), CommitId(here[1].parse().expect("an id")));
        Self { process, says, addr, head }
    }

    fn raw(&self, seed: u8) -> raw::Raw {
        raw::Raw::connect(seed, &raw::peer(1), &self.addr)
    }

    /// Streams, connections and tasks that it has.
    fn count(&mut self) -> [u64; 3] {
        let asks = self.process.stdin.as_mut().expect("it is piped");
        asks.write_all(b"\n").and_then(|()| asks.flush()).expect("it hears");
        let count = words(&mut self.says, "count");
        [0, 1, 2].map(|at: usize| count[at].parse().expect("a number"))
    }

    /// Bytes of memory that it has; from here on it is remembered how many it has had at most.
    fn begin(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").expect("it runs");
        self.memory("VmRSS:")
    }

    /// Bytes of memory that it has had at most, beyond what it had.
    fn grown(&self, from: u64) -> u64 {
        self.memory("VmHWM:").saturating_sub(from)
    }

    fn memory(&self, which: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("a line");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// Files and sockets that it has open.
    fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it runs").count()
    }

    /// It serves whoever comes.
    fn serves(&self, seed: u8) {
        let here = Node::new(seed);
        here.net().connect(raw::peer(1), std::slice::from_ref(&self.addr)).expect("connected");
        here.fetch(self.head, &[raw::peer(1)], &mut |_| ()).0.expect("served");
        here.repo.check(self.head);
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What stands behind the first word of the next line that begins with it.
fn words(says: &mut BufReader<ChildStdout>, first: &str) -> Vec<String> {
    loop {
        let mut line = String::new();
        assert_ne!(says.read_line(&mut line).expect("it speaks"), 0, "it has ended");
        let mut words = line.split_whitespace();
        if words.next() == Some(first) {
            return words.map(str::to_owned).collect();
        }
    }
}

/// Between a peer and a node: what the peer sends without a pause comes in the opposite order.
struct Reversing {
    addr: String,
    is_over: Arc<AtomicBool>,
    reversed: Arc<AtomicUsize>,
}

impl Reversing {
    fn new(to: &str) -> Self {
        let (near, far) = (bind(), bind());
        far.connect(to).expect("an address");
        let addr = near.local_addr().expect("an address").to_string();
        let it = Self { addr, is_over: Arc::default(), reversed: Arc::default() };
        let (is_over, reversed) = (Arc::clone(&it.is_over), Arc::clone(&it.reversed));
        let (back_near, back_far, back_is_over) = (Arc::clone(&near), Arc::clone(&far), Arc::clone(&it.is_over));
        std::thread::spawn(move || there(&near, &far, &is_over, &reversed));
        std::thread::spawn(move || back(&back_near, &back_far, &back_is_over));
        it
    }

    fn reversed(&self) -> usize {
        self.reversed.load(Ordering::Relaxed)
    }
}

impl Drop for Reversing {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn bind() -> Arc<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_millis(2))).expect("set");
    Arc::new(socket)
}

fn there(near: &UdpSocket, far: &UdpSocket, is_over: &AtomicBool, reversed: &AtomicUsize) {
    let (mut buffer, mut held) = ([0; 2000], Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        match near.recv_from(&mut buffer) {
            Ok((len, from)) => {
                near.connect(from).expect("an address");
                held.push(buffer[..len].to_vec());
            }
            Err(_) => {
                reversed.fetch_add(held.len().saturating_sub(1), Ordering::Relaxed);
                held.drain(..).rev().for_each(|packet| drop(far.send(&packet)));
            }
        }
    }
}

fn back(near: &UdpSocket, far: &UdpSocket, is_over: &AtomicBool) {
    let mut buffer = [0; 2000];
    while !is_over.load(Ordering::Relaxed) {
        if let Ok(len) = far.recv(&mut buffer) {
            drop(near.send(&buffer[..len]));
        }
    }
}

/// A request for all chunks of the large file.
fn much(apart: &Apart) -> Vec<u8> {
    get(apart.head, &[0, 7], 200)
}

/// P7: pieces of streams that come in any order but theirs, and wait for somebody to read them, take what their windows allow.
#[test]
fn pieces_out_of_order() {
    let mut apart = Apart::new();
    apart.serves(2);
    let before = apart.begin();
    let between = Reversing::new(&apart.addr);
    let raw = raw::Raw::connect(10, &raw::peer(1), &between.addr);
    let mut poured = 0;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let (mut stream, answer) = raw.greet(Class::Bulk);
        assert_eq!(answer[4], 2, "it is welcome");
        // While this is being answered, and nobody takes the answer, no more is read.
        raw.send(&mut stream, &much(&apart).repeat(4));
        poured += raw.pour(&mut stream, &[1; 60], 4 << 20);
        streams.push(stream);
    }
    println!("{poured} bytes wait, {} packets came later than those behind them", between.reversed());
    println!("{} KiB more than before", apart.grown(before) >> 10);
    assert!(between.reversed() > 1_000 && poured > 4 << 20, "it was not tried");
    assert_eq!(apart.count()[0], 4, "the streams are there");
    assert!(apart.grown(before) < 32 << 20, "{} bytes more", apart.grown(before));
    apart.serves(3);
}

/// P5, P6, P13, P21, P23: of dear requests whose answers nobody takes, of messages that do not come to their end, and of streams that
/// break off anywhere, by four members at once on all the streams that they may have, there is little to be seen, and afterwards nothing.
#[test]
fn whatever_members_do() {
    let mut apart = Apart::new();
    let idle = apart.count()[2];
    apart.serves(2);
    until("nobody is there", || apart.count()[..2] == [0, 0]);
    until("nothing is done", || apart.count()[2] == idle);
    let (before, files) = (apart.begin(), apart.files());
    let members: Vec<raw::Raw> = (10..14).map(|seed| apart.raw(seed)).collect();
    let mut streams = Vec::new();
    for member in &members {
        for _ in 0..4 {
            let (mut stream, _) = member.greet(Class::Bulk);
            member.send(&mut stream, &much(&apart).repeat(4));
            streams.push(stream);
            let (mut stream, _) = member.greet(Class::Call);
            let call = Message::Call { number: 1, topic: PUBLISH, body: vec![1; 1 << 20] }.encode();
            member.send(&mut stream, &call[..call.len() - 1]);
            streams.push(stream);
        }
    }
    let [streams, _, tasks] = apart.count();
    assert!(streams >= 16 && tasks >= idle + streams, "they are there, with {tasks} tasks");
    apart.serves(3);
    drop((streams, members));
    let asked = [raw::hello(Class::Bulk), much(&apart)].concat();
    for (seed, cut) in (20..).zip((0..asked.len()).step_by(asked.len() / 40)) {
        let raw = apart.raw(seed);
        let mut stream = raw.open(Class::Bulk);
        raw.send(&mut stream, &asked[..cut]);
    }
    until("nobody is there any more", || apart.count()[..2] == [0, 0]);
    until("nor is any task of theirs", || apart.count()[2] == idle);
    until("nor is any file or socket of theirs", || apart.files() <= files);
    println!("{} KiB more than before", apart.grown(before) >> 10);
    assert!(apart.grown(before) < 96 << 20, "{} bytes more", apart.grown(before));
}
