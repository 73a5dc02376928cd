//! The channels of a guest: who owns which number, and which ones the host took away.

use super::{
    backdoor::{MAX_CHANNELS, Protocol, Step},
    message::{Channel, Cookies},
    violation::Violation,
};

/// All channels of the guest.
#[derive(Debug, Default)]
pub struct Channels {
    open: Vec<Channel>,
    /// Channels that the host took away and the guest has not closed yet: steps on them fail, but are no violation.
    lost: Vec<(u16, Option<Cookies>)>,
    /// Numbers the cookies, so that no two channels of a run share them.
    opened: u32,
    /// Channels of other programs of the guest, which count towards the limit and do nothing.
    pub foreign: usize,
}

impl Channels {
    /// Opens a channel; `None` when all are in use.
    pub fn open(&mut self, protocol: Protocol, cookies: bool, pid: i32) -> Option<&mut Channel> {
        if self.open.len() + self.foreign >= MAX_CHANNELS {
            return None;
        }
        // Without cookies a lost channel can be told from a new one by its number only.
        let taken = |id: u16| {
            self.open.iter().any(|channel| channel.id == id) || self.lost.iter().any(|(lost, _)| *lost == id)
        };
        let id = (0..u16::MAX).find(|id| !taken(*id))?;
        self.opened = self.opened.wrapping_add(1);
        let cookies = cookies.then_some(pair(self.opened));
        self.open.push(Channel::new(id, protocol, cookies, pid));
        self.open.last_mut()
    }

    /// The channel of a step. `Ok(None)`: it was open until the host took it away.
    pub fn find(&mut self, step: Step, id: u16, cookies: Cookies) -> Result<Option<&mut Channel>, Violation> {
        let is_lost = self
            .lost
            .iter()
            .any(|lost| lost.0 == id && lost.1.is_none_or(|lost| lost == cookies));
        match self.open.iter_mut().find(|channel| channel.id == id) {
            Some(channel) if channel.cookies.is_none_or(|own| own == cookies) => Ok(Some(channel)),
            _ if is_lost => Ok(None),
            Some(_) => Err(Violation::Cookies { step, id }),
            None => Err(Violation::Channel { step, id }),
        }
    }

    /// The open channel of a number.
    pub fn get(&mut self, id: u16) -> Option<&mut Channel> {
        self.open.iter_mut().find(|channel| channel.id == id)
    }

    /// The open channels.
    pub fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.open.iter()
    }

    /// The open channels, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.open.iter_mut()
    }

    /// Gives every channel other cookies, as after a revert to a snapshot with channels of its own. The old pairs are
    /// refused. Tells how many channels have cookies.
    pub fn change_cookies(&mut self) -> usize {
        let mut changed = 0;
        for channel in &mut self.open {
            if let Some(cookies) = &mut channel.cookies {
                self.opened = self.opened.wrapping_add(1);
                self.lost.push((channel.id, Some(*cookies)));
                *cookies = pair(self.opened);
                changed += 1;
            }
        }
        changed
    }

    /// The guest closed a channel.
    pub fn close(&mut self, id: u16, cookies: Cookies) -> Option<Channel> {
        self.lost
            .retain(|lost| lost.0 != id || lost.1.is_some_and(|lost| lost != cookies));
        let at = self
            .open
            .iter()
            .position(|channel| channel.id == id && channel.cookies.is_none_or(|own| own == cookies))?;
        Some(self.open.remove(at))
    }

    /// The host takes away the channels that `which` names, and returns them.
    pub fn lose(&mut self, which: impl Fn(&Channel) -> bool) -> Vec<Channel> {
        let (gone, kept) = std::mem::take(&mut self.open).into_iter().partition(which);
        self.open = kept;
        let gone: Vec<Channel> = gone;
        self.lost
            .extend(gone.iter().map(|channel| (channel.id, channel.cookies)));
        // A guest that never closes must not make this grow without end.
        let excess = self.lost.len().saturating_sub(MAX_CHANNELS);
        self.lost.drain(..excess);
        gone
    }
}

/// Odd multipliers spread the numbers: no two openings of a run get the same pair.
fn pair(opened: u32) -> Cookies {
    Cookies {
        high: opened.wrapping_mul(0x9E37_79B1),
        low: opened.wrapping_mul(0x85EB_CA77),
    }
}
