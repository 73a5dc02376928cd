//! What the host is told at `Capabilities_Register`, and what is taken back at the end (toolsRpc.c).

use std::time::Instant;

use super::{Ask, Dispatch, REGISTRATION_RETRY};
use crate::{
    guestinfo,
    rpci::{Request, RpciError},
    tclo::Event,
};

/// "Guest managed", with the install type of open-vm-tools: 2147483647 is the unmanaged version of vm_tools_version.h.
const VERSION_AND_TYPE: &str = "tools.set.versiontype 2147483647 4";

/// The same for hosts that do not know the type.
const VERSION: &str = "tools.set.version 2147483647";

/// What the capabilities' names begin with.
const CAPABILITY: &str = "tools.capability.";

impl Dispatch {
    /// Sends the whole registration. When the channel is lost on the way, it is due again later.
    pub(super) fn register(&mut self, now: Instant, ask: Ask<'_>) -> Option<Event> {
        if !self.announced {
            self.announce(&mut *ask);
        }
        let mut accepted = Vec::new();
        let complete = self.tell_all(&mut accepted, ask).is_ok();
        if complete {
            self.registered = accepted;
        } else {
            // What an earlier one told the host still stands.
            accepted.retain(|request| !self.registered.contains(request));
            self.registered.append(&mut accepted);
        }
        self.owed = (!complete).then(|| now + REGISTRATION_RETRY);
        complete.then_some(Event::Registered)
    }

    /// Takes back every capability that has a value; one without cannot be withdrawn.
    pub fn withdraw(&mut self, ask: Ask<'_>) {
        for request in std::mem::take(&mut self.registered) {
            if let Some(withdrawal) = withdrawal(&request) {
                // The process is ending; the host finds out by the silence as well.
                let _ = ask(&withdrawal);
            }
        }
    }

    fn tell_all(&mut self, accepted: &mut Vec<Request>, ask: Ask<'_>) -> Result<(), RpciError> {
        let capabilities: Vec<Request> = self
            .features
            .iter_mut()
            .flat_map(|feature| feature.capabilities())
            .collect();
        for request in capabilities {
            if self.tell(&request, &mut *ask)? && withdrawal(&request).is_some() {
                accepted.push(request);
            }
        }
        if !self.tell(&Request::text(VERSION_AND_TYPE), &mut *ask)? {
            self.tell(&Request::text(VERSION), &mut *ask)?;
        }
        let program = guestinfo::program().into_iter();
        for request in program.filter_map(|(key, value)| key.text(&value)) {
            self.tell(&request, &mut *ask)?;
        }
        Ok(())
    }

    /// Whether the host took the request; a refusal is never fatal.
    fn tell(&mut self, request: &Request, ask: Ask<'_>) -> Result<bool, RpciError> {
        match ask(request) {
            Ok(_) => Ok(true),
            Err(error) if error.is_lost() => Err(error),
            Err(error) => {
                self.note(request, Some(error));
                Ok(false)
            }
        }
    }
}

/// The request that takes `request` back: the same capability with zeros for its last number or its `number=value`s.
fn withdrawal(request: &Request) -> Option<Request> {
    let text = str::from_utf8(request.bytes()).ok()?.strip_suffix('\0')?;
    let (name, value) = text.split_once(' ')?;
    if !name.starts_with(CAPABILITY) {
        return None;
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut words: Vec<String> = value.split(' ').map(str::to_owned).collect();
    let pairs = words.iter().all(|word| word.contains('='));
    if pairs {
        for word in &mut words {
            let (key, _) = word.split_once('=')?;
            *word = format!("{key}=0");
        }
    } else {
        let last = words.last_mut().filter(|word| is_number(word))?;
        *last = "0".to_owned();
    }
    Some(Request::text(format!("{name} {}", words.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_with_a_value_can_be_withdrawn() {
        for (sent, withdrawn) in [
            (
                "tools.capability.hgfs_server toolbox 1",
                "tools.capability.hgfs_server toolbox 0",
            ),
            (
                "tools.capability.features 37=1 36=1",
                "tools.capability.features 37=0 36=0",
            ),
        ] {
            assert_eq!(withdrawal(&Request::text(sent)), Some(Request::text(withdrawn)));
        }
    }

    #[test]
    fn everything_else_cannot() {
        for request in [
            Request::raw("tools.capability.statechange "),
            Request::text("tools.capability.guest_conf_directory /etc"),
            Request::text("tools.set.version 2147483647"),
            Request::text("SetGuestInfo  7 123456"),
            Request::raw(*b"tools.capability.\xff 1\0"),
        ] {
            assert_eq!(withdrawal(&request), None, "{request:?}");
        }
    }

    #[test]
    fn strings_are_those_of_example_9_9() {
        assert_eq!(Request::text(VERSION_AND_TYPE).bytes().len(), 35);
        assert_eq!(Request::text(VERSION).bytes().len(), 29);
    }
}
