//! The rule of what restore may do at one path (rule 17 of the storage notes): three sides in, a verdict out. Pure.

/// What a tree has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing.
    Nothing,
    /// A file or symlink.
    Leaf,
    /// A directory.
    Directory,
}

/// What stands there on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A file or symlink that was not read yet.
    Unread,
    /// A file or symlink.
    Leaf {
        /// It equals what the target has there.
        same: bool,
        /// Its content can be had from the store.
        known: bool,
        /// It is a symlink.
        symlink: bool,
    },
    /// A FIFO, socket or device, or a file that cannot be read.
    Other,
    /// Something that the system says nothing about.
    Hidden,
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// What the target lacks goes.
    pub delete: bool,
    /// What is in no commit goes too.
    pub force: bool,
}

/// One path, seen from all sides.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What is to stand there.
    pub target: Side,
    /// What stands there on disk.
    pub present: Present,
    /// HEAD has something there.
    pub tracked: bool,
    /// Ignore rules leave it out.
    pub ignored: bool,
    /// A directory above it stands where a file is to be.
    pub in_the_way: bool,
    /// What the user asked for.
    pub flags: Flags,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is there and nothing is to be.
    Nothing,
    /// It stays as it is, and the user need not hear of it.
    Leave,
    /// It is as it should be.
    Unchanged,
    /// It must be read before anything can be said.
    Read,
    /// It stays since it holds what is in no commit.
    Skip,
    /// It goes.
    Delete,
    /// A file or symlink is put there, in place of one if there is one.
    Write,
    /// The directory there is emptied and removed, and then a file put there, if all in it may go.
    Clear,
    /// The directory there is emptied as far as it may be, and removed if nothing is left.
    Sweep,
    /// A directory is made.
    Mkdir,
    /// The file or symlink there makes room for a directory.
    Supplant,
    /// Both are directories: what matters is inside.
    Enter,
}

/// The rule.
pub fn decide(facts: &Facts) -> Verdict {
    let Facts { tracked, flags: Flags { delete, force }, .. } = *facts;
    match (facts.target, facts.present) {
        (Side::Nothing, Present::Nothing) => Verdict::Nothing,
        (Side::Nothing, present) => lacked(facts, present),
        (Side::Leaf, Present::Nothing) => Verdict::Write,
        (Side::Directory, Present::Nothing) => Verdict::Mkdir,
        (Side::Leaf, Present::Directory) => Verdict::Clear,
        (Side::Directory, Present::Directory) => Verdict::Enter,
        (_, Present::Unread) => Verdict::Read,
        (_, Present::Hidden) => Verdict::Skip,
        (Side::Leaf, Present::Leaf { same: true, .. }) => Verdict::Unchanged,
        (Side::Leaf, Present::Leaf { known, .. }) if known || force => Verdict::Write,
        (Side::Leaf, Present::Other) if force => Verdict::Write,
        (Side::Directory, Present::Leaf { known, symlink, .. })
            if (tracked || delete || (force && symlink)) && (known || force) =>
        {
            Verdict::Supplant
        }
        (Side::Directory, Present::Other) if (tracked || delete) && force => Verdict::Supplant,
        (Side::Leaf | Side::Directory, Present::Leaf { .. } | Present::Other) => Verdict::Skip,
    }
}

/// What the target lacks: goes only if asked for, or if it is tracked and in the way.
fn lacked(facts: &Facts, present: Present) -> Verdict {
    let Facts { tracked, ignored, in_the_way, flags: Flags { delete, force }, .. } = *facts;
    if ignored && !tracked {
        return Verdict::Leave;
    }
    match present {
        Present::Directory if delete || in_the_way => Verdict::Sweep,
        _ if !(delete || in_the_way && tracked) => Verdict::Leave,
        Present::Unread => Verdict::Read,
        Present::Leaf { known, .. } if known || force => Verdict::Delete,
        Present::Other if force => Verdict::Delete,
        Present::Leaf { .. } | Present::Other | Present::Hidden => Verdict::Skip,
        Present::Nothing | Present::Directory => Verdict::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::*;
    use super::*;

    const SAME: Present = Present::Leaf { same: true, known: true, symlink: false };
    const KNOWN: Present = Present::Leaf { same: false, known: true, symlink: false };
    const NEW: Present = Present::Leaf { same: false, known: false, symlink: false };
    const LINK: Present = Present::Leaf { same: false, known: false, symlink: true };

    /// For flags none, delete, force, both.
    fn check(target: Side, present: Present, tracked: bool, expected: [Verdict; 4]) {
        let combinations = [(false, false), (true, false), (false, true), (true, true)];
        for ((delete, force), expected) in combinations.into_iter().zip(expected) {
            let flags = Flags { delete, force };
            let facts = Facts { target, present, tracked, ignored: false, in_the_way: false, flags };
            assert_eq!(decide(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn the_table() {
        use Side::{Directory as Dir, Leaf, Nothing as No};
        for tracked in [false, true] {
            // The same whatever was asked for.
            check(No, Present::Nothing, tracked, [Nothing; 4]);
            check(Leaf, Present::Nothing, tracked, [Write; 4]);
            check(Leaf, Present::Unread, tracked, [Read; 4]);
            check(Leaf, SAME, tracked, [Unchanged; 4]);
            check(Leaf, KNOWN, tracked, [Write; 4]);
            check(Leaf, Present::Directory, tracked, [Clear; 4]);
            check(Leaf, Present::Hidden, tracked, [Skip; 4]);
            check(Dir, Present::Nothing, tracked, [Mkdir; 4]);
            check(Dir, Present::Unread, tracked, [Read; 4]);
            check(Dir, Present::Directory, tracked, [Enter; 4]);
            check(Dir, Present::Hidden, tracked, [Skip; 4]);
            // What is in no commit wants force.
            check(Leaf, NEW, tracked, [Skip, Skip, Write, Write]);
            check(Leaf, LINK, tracked, [Skip, Skip, Write, Write]);
            check(Leaf, Present::Other, tracked, [Skip, Skip, Write, Write]);
            check(Dir, LINK, tracked, [Skip, Skip, Supplant, Supplant]);
            // What the target lacks wants delete.
            check(No, Present::Directory, tracked, [Leave, Sweep, Leave, Sweep]);
            check(No, Present::Unread, tracked, [Leave, Read, Leave, Read]);
            check(No, KNOWN, tracked, [Leave, Delete, Leave, Delete]);
            check(No, NEW, tracked, [Leave, Skip, Leave, Delete]);
            check(No, Present::Other, tracked, [Leave, Skip, Leave, Delete]);
            check(No, Present::Hidden, tracked, [Leave, Skip, Leave, Skip]);
        }
        // A file that stands for a directory.
        check(Dir, KNOWN, true, [Supplant; 4]);
        check(Dir, KNOWN, false, [Skip, Supplant, Skip, Supplant]);
        check(Dir, NEW, true, [Skip, Skip, Supplant, Supplant]);
        check(Dir, NEW, false, [Skip, Skip, Skip, Supplant]);
        check(Dir, Present::Other, true, [Skip, Skip, Supplant, Supplant]);
        check(Dir, Present::Other, false, [Skip, Skip, Skip, Supplant]);
    }

    #[test]
    fn what_is_ignored_stays_unless_it_is_tracked() {
        for present in [Present::Directory, Present::Unread, KNOWN, NEW, Present::Other, Present::Hidden] {
            for in_the_way in [false, true] {
                let flags = Flags { delete: true, force: true };
                let facts = Facts { target: Side::Nothing, present, tracked: false, ignored: true, in_the_way, flags };
                assert_eq!(decide(&facts), Leave, "{facts:?}");
                assert_ne!(decide(&Facts { tracked: true, ..facts }), Leave, "{facts:?}");
            }
        }
    }

    #[test]
    fn in_the_way_of_a_file_tracked_things_go_and_others_only_with_delete() {
        let facts = |present, tracked, delete| {
            let flags = Flags { delete, force: false };
            Facts { target: Side::Nothing, present, tracked, ignored: false, in_the_way: true, flags }
        };
        assert_eq!(decide(&facts(KNOWN, true, false)), Delete);
        assert_eq!(decide(&facts(KNOWN, false, false)), Leave);
        assert_eq!(decide(&facts(KNOWN, false, true)), Delete);
        assert_eq!(decide(&facts(NEW, true, false)), Skip);
        assert_eq!(decide(&facts(NEW, false, true)), Skip);
        assert_eq!(decide(&facts(Present::Directory, false, false)), Sweep);
    }
}
