//! What a Get asks for: positions of children in nodes, and how one comes to the nodes. `docs/protocol.md`, section 4.
//!
//! There is no way to write down an id here but that of a root: so nobody can ask for what he merely has a hash of.

use filesync_cas::{ContentHash, Kind};
use filesync_merkle::DecodeError;
use filesync_merkle::codec::{Reader, Writer};

use crate::peer::Root;

/// Roots in one request.
pub const ROOTS_MAX: usize = 256;
/// Nodes in one request.
pub const NODES_MAX: usize = 4096;
/// Steps from a root to a node.
pub const STEPS_MAX: usize = 8192;
/// Runs of one node.
pub const RUNS_MAX: usize = 1024;
/// Objects of one request.
pub const WANTS_MAX: usize = 16_384;
/// Bytes of one request.
pub const GET_LEN_MAX: usize = 64 << 10;
/// A node has at most 1024 entries with a content and attributes each.
const POSITIONS_MAX: u32 = 2048;

/// Consecutive children of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Position of the first.
    pub first: u16,
    /// How many.
    pub count: u16,
}

/// Children of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeWants {
    /// Which root it is led to from.
    pub root: u16,
    /// How many steps it shares with the node before.
    pub keep: u16,
    /// The steps after those.
    pub steps: Vec<u16>,
    /// Which children.
    pub runs: Vec<Run>,
}

/// A request for objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Where the paths begin.
    pub roots: Vec<Root>,
    /// What is wanted, node by node.
    pub nodes: Vec<NodeWants>,
}

impl Get {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.len_u16(self.roots.len());
        for root in &self.roots {
            out.u8(root.kind().0);
            out.bytes(root.id().as_bytes());
        }
        out.len_u16(self.nodes.len());
        for node in &self.nodes {
            out.u16(node.root);
            out.u16(node.keep);
            out.len_u16(node.steps.len());
            node.steps.iter().for_each(|step| out.u16(*step));
            out.len_u16(node.runs.len());
            for run in &node.runs {
                out.u16(run.first);
                out.u16(run.count);
            }
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = from.bounded_u16(ROOTS_MAX, "too many roots")?;
        let mut roots: Vec<Root> = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = Kind(from.u8()?);
            let Some(root) = Root::new(kind, ContentHash::from_bytes(from.array()?)) else {
                return from.fail("no root of that kind");
            };
            from.check(!roots.contains(&root), "a root occurs twice")?;
            roots.push(root);
        }
        let count = from.bounded_u16(NODES_MAX, "too many nodes")?;
        from.check(count > 0, "no nodes")?;
        let mut nodes: Vec<NodeWants> = Vec::new();
        let mut path: Vec<u16> = Vec::new();
        let mut wants = 0;
        for _ in 0..count {
            let node = NodeWants::decode(from, nodes.last(), &mut path)?;
            wants += node.runs.iter().map(|run| usize::from(run.count)).sum::<usize>();
            from.check(wants <= WANTS_MAX, "too many objects")?;
            nodes.push(node);
        }
        let last = nodes.last().map_or(0, |node| usize::from(node.root) + 1);
        from.check(last == roots.len(), "a root without nodes")?;
        Ok(Self { roots, nodes })
    }
}

impl NodeWants {
    /// Reads one; `path` is that of the node before, and becomes that of this.
    fn decode(from: &mut Reader<'_>, before: Option<&Self>, path: &mut Vec<u16>) -> Result<Self, DecodeError> {
        let root = from.u16()?;
        let keep = from.u16()?;
        let is_new_root = match before {
            Some(before) => {
                from.check(root == before.root || Some(root) == before.root.checked_add(1), "roots out of order")?;
                root != before.root
            }
            None => {
                from.check(root == 0, "roots out of order")?;
                true
            }
        };
        if is_new_root {
            path.clear();
        }
        from.check(usize::from(keep) <= path.len(), "more steps kept than there are")?;
        let count = from.bounded_u16(STEPS_MAX, "too many steps")?;
        from.check(usize::from(keep) + count <= STEPS_MAX, "too many steps")?;
        let mut steps = Vec::with_capacity(count.min(from.left() / 2));
        for _ in 0..count {
            steps.push(from.u16()?);
        }
        let next = path.get(usize::from(keep));
        from.check(next.is_none() || steps.first() != next, "fewer steps kept than could be")?;
        let same = !is_new_root && usize::from(keep) == path.len() && steps.is_empty();
        from.check(!same, "a node occurs twice in a row")?;
        path.truncate(usize::from(keep));
        path.extend_from_slice(&steps);
        Ok(Self { root, keep, steps, runs: decode_runs(from)? })
    }
}

fn decode_runs(from: &mut Reader<'_>) -> Result<Vec<Run>, DecodeError> {
    let count = from.bounded_u16(RUNS_MAX, "too many runs")?;
    from.check(count > 0, "a node of which nothing is wanted")?;
    let mut runs = Vec::with_capacity(count);
    let mut end: Option<u32> = None;
    for _ in 0..count {
        let run = Run { first: from.u16()?, count: from.u16()? };
        let first = u32::from(run.first);
        from.check(end.is_none_or(|end| first > end), "runs that touch, or are out of order")?;
        end = Some(first + u32::from(run.count));
        from.check(run.count > 0 && end <= Some(POSITIONS_MAX), "a run of no length, or too far out")?;
        runs.push(run);
    }
    Ok(runs)
}

/// One object that is wanted, as its parent tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Its position among its parent's children.
    pub position: u16,
    /// Its kind.
    pub kind: Kind,
    /// Which object.
    pub id: ContentHash,
    /// Its length, where the parent says it; else 0.
    pub len: u32,
}

/// Objects that are wanted of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedChildren {
    /// Where the path begins.
    pub root: Root,
    /// Positions from there to the node.
    pub path: Vec<u16>,
    /// What is wanted, ascending by position.
    pub wants: Vec<Want>,
}

/// Puts a request together, as much as goes into one.
#[derive(Debug, Default)]
pub struct GetBuilder {
    roots: Vec<Root>,
    nodes: Vec<NodeWants>,
    path: Vec<u16>,
    encoded: usize,
    wants: usize,
}

impl GetBuilder {
    /// Adds a node's children; `false` if it does not go in any more, then nothing was added.
    pub fn push(&mut self, wanted: &WantedChildren) -> bool {
        let same_root = self.roots.last() == Some(&wanted.root);
        let kept = self.path.iter().zip(&wanted.path).take_while(|(a, b)| a == b).count();
        let keep = if same_root { kept } else { 0 };
        let runs = runs_of(&wanted.wants);
        let steps = &wanted.path[keep.min(wanted.path.len())..];
        let more = 8 + 2 * steps.len() + 4 * runs.len() + if same_root { 0 } else { 33 };
        let is_repeated = same_root && self.path == wanted.path;
        let fits = self.encoded + more + 4 <= GET_LEN_MAX
            && self.wants + wanted.wants.len() <= WANTS_MAX
            && self.nodes.len() < NODES_MAX
            && (same_root || (self.roots.len() < ROOTS_MAX && !self.roots.contains(&wanted.root)))
            && wanted.path.len() <= STEPS_MAX
            && !is_repeated
            && (1..=RUNS_MAX).contains(&runs.len());
        if !fits {
            return false;
        }
        if !same_root {
            self.roots.push(wanted.root);
        }
        let number = |n: usize| u16::try_from(n).expect("limits are below");
        self.nodes.push(NodeWants {
            root: number(self.roots.len() - 1),
            keep: number(keep),
            steps: steps.to_vec(),
            runs,
        });
        self.path.clone_from(&wanted.path);
        self.encoded += more;
        self.wants += wanted.wants.len();
        true
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The request.
    pub fn finish(self) -> Get {
        Get { roots: self.roots, nodes: self.nodes }
    }
}

/// Positions as runs that do not touch.
fn runs_of(wants: &[Want]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for want in wants {
        match runs.last_mut() {
            Some(run) if u32::from(run.first) + u32::from(run.count) == u32::from(want.position) => run.count += 1,
            _ => runs.push(Run { first: want.position, count: 1 }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use filesync_merkle::CommitId;

    fn root(n: u8) -> Root {
        Root::Commit(CommitId::from_bytes([n; 32]))
    }

    fn wanted(n: u8, path: &[u16], positions: &[u16]) -> WantedChildren {
        let want = |position: &u16| Want {
            position: *position,
            kind: Kind::CHUNK,
            id: ContentHash::of_chunk(&position.to_le_bytes()),
            len: 1,
        };
        WantedChildren { root: root(n), path: path.to_vec(), wants: positions.iter().map(want).collect() }
    }

    fn build(nodes: &[WantedChildren]) -> Get {
        let mut builder = GetBuilder::default();
        nodes.iter().for_each(|node| assert!(builder.push(node), "{node:?}"));
        builder.finish()
    }

    fn round_trip(get: &Get) -> Result<Get, DecodeError> {
        let mut out = Writer::with_capacity(64);
        get.encode(&mut out);
        let bytes = out.finish();
        let mut from = Reader::new(&bytes);
        let back = Get::decode(&mut from)?;
        from.finish()?;
        Ok(back)
    }

    #[test]
    fn paths_share_what_they_can() {
        let get = build(&[
            wanted(1, &[0], &[0, 1, 2, 7]),
            wanted(1, &[0, 5, 9], &[3]),
            wanted(1, &[0, 5], &[1]),
            wanted(1, &[0, 5, 8], &[1]),
            wanted(2, &[0, 5, 8], &[1]),
        ]);
        assert_eq!(round_trip(&get), Ok(get.clone()));
        let keeps: Vec<_> = get.nodes.iter().map(|node| (node.root, node.keep, node.steps.len())).collect();
        assert_eq!(keeps, [(0, 0, 1), (0, 1, 2), (0, 2, 0), (0, 2, 1), (1, 0, 3)]);
        assert_eq!(get.nodes[0].runs, [Run { first: 0, count: 3 }, Run { first: 7, count: 1 }]);
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = build(&[wanted(1, &[0, 5], &[0]), wanted(1, &[0, 5, 9], &[3]), wanted(2, &[0], &[1])]);
        let bad = |change: &dyn Fn(&mut Get)| {
            let mut get = good.clone();
            change(&mut get);
            assert!(round_trip(&get).is_err(), "{get:?}");
        };
        round_trip(&good).expect("good");
        bad(&|get| get.roots[1] = get.roots[0]);
        bad(&|get| get.roots.push(root(9)));
        bad(&|get| get.nodes[2].root = 0);
        bad(&|get| get.nodes[1].root = 2);
        bad(&|get| get.nodes[0].root = 1);
        bad(&|get| (get.nodes[1].keep, get.nodes[1].steps) = (1, vec![5, 9]));
        bad(&|get| get.nodes[1].keep = 3);
        bad(&|get| get.nodes[1].steps.clear());
        bad(&|get| get.nodes[2].keep = 1);
        bad(&|get| get.nodes[0].runs.clear());
        bad(&|get| get.nodes[0].runs.push(Run { first: 1, count: 1 }));
        bad(&|get| get.nodes[0].runs[0].count = 0);
        bad(&|get| get.nodes[0].runs[0] = Run { first: 2000, count: 49 });
        bad(&|get| {
            let node =
                |step| NodeWants { root: 0, keep: 1, steps: vec![step], runs: vec![Run { first: 0, count: 2048 }] };
            get.nodes.splice(1..1, (6..15).map(node));
        });
        bad(&|get| get.nodes[0].steps = vec![1; STEPS_MAX + 1]);
        bad(&|get| get.nodes.clear());
    }

    #[test]
    fn a_request_is_filled_and_no_further() {
        let mut builder = GetBuilder::default();
        let full = (0..).find(|n| !builder.push(&wanted(1, &[0, *n], &(0..100).collect::<Vec<_>>())));
        assert_eq!(full, Some(163), "16,384 objects");
        assert!(!builder.is_empty());
        let mut builder = GetBuilder::default();
        let deep: Vec<u16> = vec![3; STEPS_MAX];
        for n in 0..3 {
            assert!(builder.push(&wanted(n, &deep, &[0])));
        }
        assert!(!builder.push(&wanted(3, &deep, &[0])), "64 KiB");
        let get = builder.finish();
        let mut out = Writer::with_capacity(64);
        get.encode(&mut out);
        assert!(out.finish().len() <= GET_LEN_MAX);
        assert_eq!(round_trip(&get), Ok(get));
    }
}
