//! Who belongs: invites, admission, roles.

use ed25519_dalek::{Signature, VerifyingKey};

use super::room::{INVITE_LEN, addresses_len, member_len};
use super::{Member, OpenInvite, State};
use crate::command::{Admit, Founder, Invite, Outcome, Refusal, Role};
use crate::ids::{InviteKey, NodeId, PeerKey};

/// The longest name of a member, in bytes.
pub const NAME_LEN_MAX: usize = 255;
/// The most addresses of a member.
pub const ADDRESSES_MAX: usize = 8;
/// The longest address, in bytes.
pub const ADDRESS_LEN_MAX: usize = 256;
/// The most invites at a time: each is a row that every node keeps.
pub const INVITES_MAX: usize = 1_000;
/// The most of them that one member may have issued who does not vote: others come to it too.
pub const INVITES_OF_ONE_MAX: usize = 100;

impl State {
    pub(super) fn found(&mut self, founder: &Founder) -> Result<Outcome, Refusal> {
        check_texts(&founder.name, &founder.addresses)?;
        if !self.members.is_empty() {
            return Err(Refusal::IsFounded);
        }
        let member = Member::new(founder.key, &founder.name, Role::Candidate, &founder.addresses);
        Ok(Outcome::Admitted(self.number(member)))
    }

    /// Gives a new member its number.
    fn number(&mut self, member: Member) -> NodeId {
        let node = NodeId(self.members.last_key_value().map_or(0, |(last, _)| last.0) + 1);
        self.members.insert(node, member);
        node
    }

    pub(super) fn invite(&mut self, invite: &Invite) -> Result<Outcome, Refusal> {
        let by = self.member(invite.by)?;
        let may = match invite.role {
            Role::Reader => self.is_voter(invite.by) || by.role >= Role::Writer,
            Role::Writer | Role::Candidate => self.is_voter(invite.by),
        };
        if !may {
            return Err(Refusal::NotAllowed(invite.by));
        }
        let open = OpenInvite { role: invite.role, uses: invite.uses, expires: invite.expires, by: invite.by };
        match self.invites.get(&invite.key) {
            // Asked for again.
            Some(known) if *known == open => return Ok(Outcome::Done),
            Some(_) => return Err(Refusal::InviteMismatch),
            None => {}
        }
        self.check_room_for_invite(invite.by)?;
        self.invites.insert(invite.key, open);
        Ok(Outcome::Done)
    }

    /// Clears away what is over, and fails unless there is room for one more of this issuer.
    fn check_room_for_invite(&mut self, by: NodeId) -> Result<(), Refusal> {
        let now = self.now;
        self.invites.retain(|_, invite| invite.expires.is_none_or(|expires| expires > now));
        // Those that are used up stay as long as they may, so that who comes with one is told so.
        if self.invites.len() >= INVITES_MAX {
            self.invites.retain(|_, invite| invite.uses > 0);
        }
        let of_one = self.invites.values().filter(|invite| invite.by == by && invite.uses > 0).count();
        let too_much = |count| Err(Refusal::TooMuch(format!("there are {count} invites")));
        match self.is_voter(by) {
            false if of_one >= INVITES_OF_ONE_MAX => too_much(of_one),
            _ if self.invites.len() >= INVITES_MAX => too_much(self.invites.len()),
            is_voter => self.check_room(INVITE_LEN, is_voter),
        }
    }

    pub(super) fn revoke(&mut self, key: &InviteKey, by: NodeId) -> Result<Outcome, Refusal> {
        self.member(by)?;
        let issuer = self.invites.get(key).ok_or(Refusal::NoInvite)?.by;
        if issuer != by && !self.is_voter(by) {
            return Err(Refusal::NotAllowed(by));
        }
        self.invites.remove(key);
        Ok(Outcome::Done)
    }

    pub(super) fn admit(&mut self, admit: &Admit) -> Result<Outcome, Refusal> {
        if let Some(node) = self.look_at(admit)? {
            return Ok(Outcome::Admitted(node));
        }
        self.invites.entry(admit.invite).and_modify(|invite| invite.uses = invite.uses.saturating_sub(1));
        Ok(Outcome::Admitted(self.number(newcomer(admit))))
    }

    /// Whether somebody may come in; the number of one who is in already.
    fn look_at(&self, admit: &Admit) -> Result<Option<NodeId>, Refusal> {
        check_texts(&admit.name, &admit.addresses)?;
        if !is_signed(admit, &admit.signed_bytes(self.repository)) {
            return Err(Refusal::InviteMismatch);
        }
        match self.member_by_key(admit.peer) {
            Some((_, member)) if member.is_removed => return Err(Refusal::WasRemoved),
            // The answer was lost: asking twice spends one use.
            Some((node, member)) if member.invite == Some(admit.invite) => return Ok(Some(node)),
            Some(_) => return Err(Refusal::InviteMismatch),
            None => {}
        }
        let invite = self.invites.get(&admit.invite).ok_or(Refusal::NoInvite)?;
        if invite.expires.is_some_and(|expires| expires <= self.now) {
            return Err(Refusal::InviteExpired);
        }
        if invite.role != admit.role {
            return Err(Refusal::InviteMismatch);
        }
        if admit.role == Role::Candidate && admit.is_partial {
            return Err(Refusal::IsPartial);
        }
        if invite.uses == 0 {
            return Err(Refusal::InviteUsedUp);
        }
        self.check_room(member_len(&newcomer(admit)), self.is_voter(invite.by))?;
        Ok(None)
    }

    /// Whether somebody would be let in as things stand: for a look before it is written to the log. Strangers ask, whose keys
    /// cost nothing: so it costs little where nobody invited them.
    pub fn check_admit(&self, admit: &Admit) -> Result<(), Refusal> {
        if !self.invites.contains_key(&admit.invite) && self.member_by_key(admit.peer).is_none() {
            return Err(Refusal::NoInvite);
        }
        self.look_at(admit).map(drop)
    }

    pub(super) fn remove(&mut self, node: NodeId, by: NodeId) -> Result<Outcome, Refusal> {
        // Whoever wants to go may.
        if by != node {
            self.check_voter(by)?;
        }
        self.member(node)?;
        self.check_votes_not(node)?;
        self.members.entry(node).and_modify(|member| {
            member.is_removed = true;
            member.addresses.clear();
        });
        self.invites.retain(|_, invite| invite.by != node);
        Ok(Outcome::Done)
    }

    pub(super) fn set_role(&mut self, node: NodeId, role: Role, by: NodeId) -> Result<Outcome, Refusal> {
        let member = self.member(node)?;
        // Whoever wants to be less may: a voter that demotes itself votes no more by then.
        if by != node || role > member.role {
            self.check_voter(by)?;
        }
        self.check_votes_not(node)?;
        if role == Role::Candidate && member.is_partial {
            return Err(Refusal::IsPartial);
        }
        if role >= Role::Writer {
            self.check_room_to_publish(member)?;
        }
        self.members.entry(node).and_modify(|member| member.role = role);
        Ok(Outcome::Done)
    }

    pub(super) fn set_addresses(&mut self, node: NodeId, addresses: &[String]) -> Result<Outcome, Refusal> {
        let member = self.member(node)?;
        check_texts("", addresses)?;
        let more = addresses_len(addresses).saturating_sub(addresses_len(&member.addresses));
        if more > 0 {
            // Voters made it a candidate, and it has to be found by the others.
            self.check_room(more, member.role == Role::Candidate)?;
        }
        self.members.entry(node).and_modify(|member| member.addresses = addresses.to_vec());
        Ok(Outcome::Done)
    }

    pub(super) fn set_partial(&mut self, node: NodeId, is_partial: bool) -> Result<Outcome, Refusal> {
        self.member(node)?;
        if is_partial {
            self.check_votes_not(node)?;
        }
        self.members.entry(node).and_modify(|member| member.is_partial = is_partial);
        Ok(Outcome::Done)
    }

    /// Neither in force nor about to be.
    fn check_votes_not(&self, node: NodeId) -> Result<(), Refusal> {
        let is_target = self.change.as_ref().is_some_and(|change| change.target.contains(&node));
        if is_target || self.is_voter(node) { Err(Refusal::IsVoter(node)) } else { Ok(()) }
    }
}

impl Member {
    /// Somebody of whom no more is known than where to ask.
    pub fn known(key: PeerKey, addresses: Vec<String>) -> Self {
        Self::new(key, "", Role::Candidate, &addresses)
    }

    fn new(key: PeerKey, name: &str, role: Role, addresses: &[String]) -> Self {
        Self {
            key,
            name: name.to_owned(),
            role,
            addresses: addresses.to_vec(),
            is_partial: false,
            is_deficient: false,
            is_removed: false,
            invite: None,
            last: None,
            last_try: None,
        }
    }
}

/// Who is let in, before he has his number.
fn newcomer(admit: &Admit) -> Member {
    let member = Member::new(admit.peer, &admit.name, admit.role, &admit.addresses);
    Member { is_partial: admit.is_partial, invite: Some(admit.invite), ..member }
}

fn check_texts(name: &str, addresses: &[String]) -> Result<(), Refusal> {
    let fits = name.len() <= NAME_LEN_MAX
        && addresses.len() <= ADDRESSES_MAX
        && addresses.iter().all(|address| address.len() <= ADDRESS_LEN_MAX);
    if !fits {
        return Err(Refusal::TooMuch("name or addresses are too long".to_owned()));
    }
    // Everybody's terminal and log shows them.
    match addresses.iter().any(|address| address.contains(char::is_control)) {
        true => Err(Refusal::TooMuch("an address has control characters".to_owned())),
        false => Ok(()),
    }
}

fn is_signed(admit: &Admit, bytes: &[u8]) -> bool {
    let key = VerifyingKey::from_bytes(&admit.invite.0);
    let signature = Signature::from_slice(&admit.signature.0);
    key.is_ok_and(|key| signature.is_ok_and(|signature| key.verify_strict(bytes, &signature).is_ok()))
}
