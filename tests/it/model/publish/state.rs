//! What a state is, and which states count as the same.

/// How many nodes there are: A B C vote at first, D and E are candidates.
pub const NODES: usize = 5;
/// Objects by commit: none, `a`, `b` with its parent `a`. A rival's closure is itself.
pub const CLOSURES: [u8; 4] = [0b00, 0b01, 0b11, 0b10];
/// What a commit adds itself.
pub const OWN: [u8; 4] = [0b00, 0b01, 0b10, 0b10];

/// Who votes at first.
pub const BEFORE: Nodes = Nodes(0b00111);

/// A set of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Nodes(pub u8);

impl Nodes {
    pub fn contains(self, node: usize) -> bool {
        self.0 & 1 << node != 0
    }

    pub fn insert(&mut self, node: usize) {
        self.0 |= 1 << node;
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Whether `some` are more than half of `set`.
pub fn majority(some: Nodes, set: Nodes) -> bool {
    (some.0 & set.0).count_ones() * 2 > set.0.count_ones()
}

/// What the log decided, as far as pins and roots depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// The second leader's first entry.
    Blank,
    Publish {
        attempt: usize,
        is_granted: bool,
    },
}

/// One try of a leader to publish a commit: what receipts and pins are keyed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    /// 1 is `a`, 2 is `b` upon `a`, 3 is `b` as a rival of `a`.
    pub commit: u8,
    /// Whose: the leader of the first or of the second term.
    pub term: u8,
    pub knowledge: Knowledge,
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Knowledge {
    /// Its leader remembers it, and may propose.
    Known,
    /// Its leader's caller stopped waiting; the proposal may still be on its way.
    GivenUp,
    /// Its leader has forgotten it, and did not propose.
    Forgotten,
    /// It is in the log.
    Decided,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Node {
    /// Objects on disk, one bit each.
    pub has: u8,
    /// Receipts given that may still be used, one bit an attempt.
    pub receipts: u8,
    /// Durable pins, one bit an attempt.
    pub pins: u8,
    /// Pins that a crash loses: none if the rules are followed.
    pub unsynced: u8,
    /// Entries applied, in memory.
    pub applied: u8,
    /// Entries applied, on disk.
    pub flushed: u8,
    /// Objects that a granted entry counts on this node for.
    pub promised: u8,
    /// What it attested for the change that is going on.
    pub live: Option<u8>,
}

/// Where a change of members stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    None,
    /// With the number of entries before it.
    Intent(u8),
    Ready,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    pub nodes: [Node; NODES],
    pub attempts: Vec<Attempt>,
    /// Whole: what is in it is committed.
    pub log: Vec<Entry>,
    /// The commit that the log ends with.
    pub main: u8,
    /// What clients X and Y were told: published, or the compare-and-swap was lost.
    pub rows: [Option<bool>; 2],
    /// One set of voters, or two during a change.
    pub in_force: [Option<Nodes>; 2],
    pub change: Change,
    pub intents: u8,
    /// A cancelled change had been ready.
    pub ready_was_cancelled: bool,
    pub term: u8,
    /// The one node that may crash, once. All others flush what they apply at once.
    pub frail: usize,
    pub may_crash: bool,
    /// Whether the frail node leads. Which other one does makes no difference: it forgets nothing.
    pub is_frail_leader: bool,
    /// History, for the promises: every grant moved the ref from where its commit starts.
    pub is_one_order: bool,
    pub has_lied: bool,
}

impl State {
    pub fn new(frail: usize, is_frail_leader: bool) -> Self {
        Self {
            nodes: Default::default(),
            attempts: Vec::new(),
            log: Vec::new(),
            main: 0,
            rows: [None; 2],
            in_force: [Some(BEFORE), None],
            change: Change::None,
            intents: 0,
            ready_was_cancelled: false,
            term: 1,
            frail,
            may_crash: true,
            is_frail_leader,
            is_one_order: true,
            has_lied: false,
        }
    }

    /// The first commit is published, and these hold it.
    pub fn begun(mut self, holders: Nodes) -> Self {
        self.attempts.push(Attempt { commit: 1, term: 1, knowledge: Knowledge::Decided });
        self.log.push(Entry::Publish { attempt: 0, is_granted: true });
        self.main = 1;
        self.rows[0] = Some(true);
        let of = Node { has: 1, promised: 1, applied: 1, flushed: 1, ..Node::default() };
        (0..NODES).filter(|&node| holders.contains(node)).for_each(|node| self.nodes[node] = of);
        self
    }

    /// Entries in the log.
    pub fn len(&self) -> u8 {
        u8::try_from(self.log.len()).expect("a few entries")
    }

    pub fn nodes_where(&self, is: impl Fn(&Node) -> bool) -> Nodes {
        let mut set = Nodes::default();
        (0..NODES).filter(|&at| is(&self.nodes[at])).for_each(|at| set.insert(at));
        set
    }

    /// Voters of all sets in force.
    pub fn voters(&self) -> Nodes {
        Nodes(self.in_force.iter().flatten().fold(0, |all, set| all | set.0))
    }

    /// Where the ref stands after the first `len` entries.
    pub fn main_at(&self, len: u8) -> u8 {
        let granted = self.log[..usize::from(len)].iter().rev().find_map(|entry| match entry {
            Entry::Publish { attempt, is_granted: true } => Some(self.attempts[*attempt].commit),
            _ => None,
        });
        granted.unwrap_or(0)
    }

    pub fn is_proposed_twice(&self, of: usize) -> bool {
        let is_of = |entry: &&Entry| matches!(entry, Entry::Publish { attempt, .. } if *attempt == of);
        self.log.iter().filter(is_of).count() > 1
    }

    /// Whether the first `len` entries say that nothing can come of an attempt any more.
    pub fn is_released(&self, attempt: usize, len: u8) -> bool {
        self.log[..usize::from(len)].iter().any(|entry| match entry {
            Entry::Blank => self.attempts[attempt].term < 2,
            Entry::Publish { attempt: decided, .. } => *decided == attempt,
        })
    }

    /// The least number of entries after which the ref stands where it does after `len`.
    fn least(&self, len: u8) -> u8 {
        (0..=len).find(|&least| self.main_at(least) == self.main_at(len)).unwrap_or(len)
    }

    /// Of states that make no difference to any promise, one.
    pub fn canonical(mut self, target: Nodes) -> Self {
        for at in 0..NODES {
            let is_gone = self.in_force[1].is_none() && self.in_force[0] == Some(target) && !target.contains(at);
            if is_gone {
                self.nodes[at] = Node::default();
            }
            // Without pins only the roots matter; a node that is further behind may do all that this one may.
            let Node { pins: 0, unsynced: 0, applied, flushed, .. } = self.nodes[at] else { continue };
            self.nodes[at].applied = self.least(applied);
            self.nodes[at].flushed = self.least(flushed);
        }
        // Nodes of one sort differ in their names only.
        for a in 0..NODES {
            for b in a + 1..NODES {
                let sort = |node| (BEFORE.contains(node), target.contains(node), node == self.frail);
                if sort(a) == sort(b) && self.nodes[b] < self.nodes[a] {
                    self.nodes.swap(a, b);
                }
            }
        }
        self
    }
}
